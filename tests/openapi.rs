//! `docs/openapi.json` says what the operator's API is: it is made here from the sources of the API, from routes,
//! signatures of handlers, types, and their comments, and is compared with the file.
//!
//! `OPENAPI=write cargo test --test openapi` writes it anew.

use serde_json::{Map, Value, json};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    let path: PathBuf = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Handlers that answer with more than one kind of body: what they answer as a rule.
const ANSWERS: &[(&str, &str, &str)] = &[("events", "list", "Vec<Event>")];

/// A field or an item with the comment and the attributes above it.
#[derive(Debug, Default)]
struct Above {
    comment: Vec<String>,
    attributes: String,
}

impl Above {
    fn description(&self) -> String {
        self.comment.join(" ").replace('`', "")
    }

    fn take(&mut self, line: &str) -> bool {
        if let Some(comment) = line.strip_prefix("///") {
            self.comment.push(comment.trim().to_owned());
        } else if line.starts_with("#[") {
            self.attributes.push_str(line);
        } else {
            return false;
        }
        true
    }
}

/// The schema of a Rust type of the API.
fn schema(of: &str) -> Value {
    let inner = |outer: &str| of.strip_prefix(outer).and_then(|rest| rest.strip_suffix('>'));
    match of {
        "String" => json!({ "type": "string" }),
        "bool" => json!({ "type": "boolean" }),
        "u8" | "u16" | "u32" | "u64" | "usize" => json!({ "type": "integer", "minimum": 0 }),
        _ => match (inner("Vec<"), inner("Option<")) {
            (Some(item), _) => json!({ "type": "array", "items": schema(item) }),
            (None, Some(some)) => json!({ "anyOf": [schema(some), { "type": "null" }] }),
            (None, None) => {
                assert!(of.chars().all(char::is_alphanumeric), "no schema is known for the type {of:?}");
                json!({ "$ref": format!("#/components/schemas/{of}") })
            }
        },
    }
}

/// Structs and enums of a file as schemas.
fn schemas(source: &str) -> Map<String, Value> {
    let mut found = Map::new();
    let mut above = Above::default();
    let mut lines = source.lines().map(str::trim);
    while let Some(line) = lines.next() {
        if above.take(line) {
            continue;
        }
        let item = std::mem::take(&mut above);
        let named = |word: &str| line.strip_prefix(word)?.strip_suffix(" {").map(str::to_owned);
        if let Some(name) = named("pub struct ") {
            found.insert(name, object(&item, &mut lines));
        } else if let Some(name) = named("pub enum ") {
            found.insert(name, words(&item, &mut lines));
        }
    }
    found
}

fn object<'a>(item: &Above, lines: &mut impl Iterator<Item = &'a str>) -> Value {
    let (mut properties, mut required) = (Map::new(), Vec::new());
    let mut above = Above::default();
    for line in lines {
        if above.take(line) {
            continue;
        }
        let field = std::mem::take(&mut above);
        let declared = line.strip_prefix("pub ").unwrap_or(line);
        let Some((name, of)) = declared.strip_suffix(',').and_then(|text| text.split_once(": ")) else {
            assert_eq!(line, "}", "a field of the API on one line");
            break;
        };
        let rename = field.attributes.split_once("rename = \"").and_then(|(_, rest)| rest.split('"').next());
        let name = rename.unwrap_or(name).to_owned();
        let mut property = schema(of);
        if !field.comment.is_empty() {
            property["description"] = field.description().into();
        }
        let may_lack = [item, &field].iter().any(|above| above.attributes.contains("default)"))
            || field.attributes.contains("default, ");
        if !may_lack && !of.starts_with("Option<") {
            required.push(Value::from(name.clone()));
        }
        properties.insert(name, property);
    }
    let closed = item.attributes.contains("deny_unknown_fields");
    let mut object = json!({ "type": "object", "properties": properties, "required": required });
    if closed {
        object["additionalProperties"] = false.into();
    }
    if !item.comment.is_empty() {
        object["description"] = item.description().into();
    }
    object
}

fn words<'a>(item: &Above, lines: &mut impl Iterator<Item = &'a str>) -> Value {
    assert!(item.attributes.contains("rename_all = \"lowercase\""), "words of the API are in lower case");
    let variants = lines.take_while(|line| *line != "}").filter(|line| !line.starts_with("//"));
    let words: Vec<String> = variants.map(|line| line.trim_end_matches(',').to_lowercase()).collect();
    json!({ "type": "string", "enum": words })
}

/// One route of the operator's router.
struct Route {
    path: String,
    handlers: Vec<Handler>,
}

/// What a method does: module and function.
struct Handler {
    method: &'static str,
    module: String,
    function: String,
}

fn routes(source: &str) -> Vec<Route> {
    let router = source.split_once("pub fn operator").expect("the operator's router").1;
    let router = router.split_once(".fallback").expect("the end of its routes").0;
    let route = |text: &str| {
        let (path, calls) = text.split_once('"').expect("a path");
        let handlers = ["get", "post", "put", "delete"].into_iter().filter_map(|method| {
            let (_, rest) = calls.split_once(&format!("{method}("))?;
            let (module, function) = rest.split_once(')')?.0.split_once("::")?;
            Some(Handler { method, module: module.to_owned(), function: function.to_owned() })
        });
        Route { path: path.to_owned(), handlers: handlers.collect() }
    };
    router.split(".route(\"").skip(1).map(route).collect()
}

/// One method of one path, from the signature of its handler.
fn operation(path: &str, module: &str, function: &str) -> Value {
    let source = read(&format!("src/ccm/api/{module}.rs"));
    let (before, after) = source
        .split_once(&format!("pub async fn {function}("))
        .unwrap_or_else(|| panic!("there is no handler {module}::{function}"));
    let signature: String = after.split_once(" {\n").expect("a body").0.split_whitespace().collect();
    let (takes, answers) = signature.rsplit_once(")->").unwrap_or((&signature, ""));
    let mut comment: Vec<&str> = before.lines().rev().map_while(|line| line.strip_prefix("/// ")).collect();
    comment.reverse();

    let names = path.split('{').skip(1).filter_map(|rest| rest.split('}').next());
    let mut parameters: Vec<Value> = names
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
        .collect();
    if let Some(asked) = within(takes, "Query<") {
        let declared = format!("pub struct {asked} {{");
        // Lists that are paged alike share theirs.
        let shared = read("src/ccm/api/page.rs");
        let mut wish = [&source, &shared].into_iter().filter_map(|source| source.split_once(&declared));
        let wish = wish.next().expect("what the query may ask for").1;
        let wish = object(&Above::default(), &mut wish.lines().skip(1).map(str::trim));
        for (name, schema) in wish["properties"].as_object().expect("fields") {
            parameters.push(json!({ "name": name, "in": "query", "required": false, "schema": schema }));
        }
    }
    let listed = ANSWERS.iter().find(|(of, name, _)| (*of, *name) == (module, function));
    let body = match listed {
        Some((.., body)) => Some((*body).to_owned()),
        None => within(answers, "Json<"),
    };
    let content = |schema: Value| json!({ "application/json": { "schema": schema } });
    let mut done = json!({ "description": "done" });
    if let Some(body) = body {
        done["content"] = content(schema(&body));
    }
    let problem = json!({ "schema": { "$ref": "#/components/schemas/Problem" } });
    let mut operation = json!({
        "operationId": format!("{module}_{function}"),
        "parameters": parameters,
        "responses": {
            "2XX": done,
            "default": { "description": "refused", "content": { "application/problem+json": problem } },
        },
    });
    if let Some(body) = within(takes, "Result<Json<") {
        operation["requestBody"] = json!({ "required": true, "content": content(schema(&body)) });
    }
    if takes.contains("body:Body") {
        let bytes = json!({ "application/octet-stream": { "schema": {} } });
        operation["requestBody"] = json!({ "required": true, "content": bytes });
    }
    if !comment.is_empty() {
        operation["summary"] = comment.join(" ").replace('`', "").into();
    }
    operation
}

/// What stands between `open` and the bracket that closes it.
fn within(text: &str, open: &str) -> Option<String> {
    let (_, rest) = text.split_once(open)?;
    let mut depth = 1;
    let end = rest.find(|letter| {
        match letter {
            '<' => depth += 1,
            '>' => depth -= 1,
            _ => {}
        }
        depth == 0
    })?;
    Some(rest[..end].to_owned())
}

fn document() -> Value {
    let mut paths = Map::new();
    for Route { path, handlers } in routes(&read("src/ccm/api/mod.rs")) {
        assert!(!handlers.is_empty(), "{path} does nothing");
        let operations: Map<String, Value> = handlers
            .iter()
            .map(|of| (of.method.to_owned(), operation(&path, &of.module, &of.function)))
            .collect();
        paths.insert(path, operations.into());
    }
    // The one type of the API that has another home.
    let filter = read("src/ccm/filter.rs");
    let at = filter.find("pub struct Filter {").expect("the filter of a site");
    let from = filter[..at].rfind("\n\n").expect("a line before its comment");
    let until = at + filter[at..].find("\n}\n").expect("its end") + 3;
    let mut found = schemas(&read("src/ccm/api/types.rs"));
    found.extend(schemas(&read("src/ccm/api/types/versions.rs")));
    found.extend(schemas(&read("src/ccm/api/types/care.rs")));
    found.extend(schemas(&read("src/ccm/api/types/access.rs")));
    found.extend(schemas(&read("src/ccm/api/types/uploads.rs")));
    found.extend(schemas(&read("src/ccm/api/types/notify.rs")));
    found.extend(schemas(&read("src/ccm/api/types/policy.rs")));
    found.extend(schemas(&filter[from..until]));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "farmcast, the operator's API",
            "version": "1",
            "description": "JSON over HTTP on the Unix socket of the CCM, and over TLS with a token at its api. \
                            Times are nanoseconds since 1970 (_ns).",
        },
        "servers": [{ "url": "http://localhost" }],
        "paths": paths,
        "security": [{}, { "token": [] }],
        "components": {
            "schemas": found,
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
    })
}

/// Every `$ref` below a value.
fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("$ref").and_then(Value::as_str));
            fields.values().for_each(|field| references(field, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[test]
fn the_document_of_the_api_is_what_the_sources_say() {
    let made = serde_json::to_string_pretty(&document()).expect("JSON") + "\n";
    let path = root().join("docs/openapi.json");
    if std::env::var_os("OPENAPI").is_some_and(|wish| wish == "write") {
        fs::write(&path, &made).expect("docs can be written");
    }
    let kept = read("docs/openapi.json");
    let differs = made.lines().zip(kept.lines()).position(|(made, kept)| made != kept);
    assert!(
        made == kept,
        "docs/openapi.json is not what the sources say, from line {} on; \
         `OPENAPI=write cargo test --test openapi` writes it anew",
        differs.map_or(made.lines().count().min(kept.lines().count()), |at| at) + 1
    );
}

#[test]
fn every_reference_of_the_document_leads_to_a_schema_and_every_operation_is_named_once() {
    let document = document();
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 50, "{found:?}");
    for reference in found {
        let pointer = reference.strip_prefix('#').expect("within the document");
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
    let paths = document["paths"].as_object().expect("paths");
    let mut ids: Vec<&str> = paths
        .values()
        .flat_map(|path| path.as_object().expect("methods").values())
        .map(|operation| operation["operationId"].as_str().expect("a name"))
        .collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert!(count > 30 && ids.len() == count, "{count} operations, {} names", ids.len());
}

#[test]
fn what_the_document_says_of_some_types_and_handlers_is_right() {
    let document = document();
    let policy = &document["components"]["schemas"]["Policy"];
    assert_eq!(policy["additionalProperties"], false);
    assert_eq!(policy["required"], json!([]));
    let phases = &document["components"]["schemas"]["Phase"]["enum"];
    assert!(phases.as_array().expect("words").contains(&"cancelled".into()), "{phases}");
    assert!(document["components"]["schemas"]["Problem"]["properties"]["type"].is_object());
    let add = &document["paths"]["/v1/schedules"]["post"];
    let asked = &add["requestBody"]["content"]["application/json"]["schema"]["$ref"];
    assert_eq!(asked, "#/components/schemas/NewSchedule");
    let answered = &add["responses"]["2XX"]["content"]["application/json"]["schema"]["$ref"];
    assert_eq!(answered, "#/components/schemas/Schedule");
    let list = &document["paths"]["/v1/jobs"]["get"]["responses"]["2XX"]["content"]["application/json"];
    assert_eq!(list["schema"]["items"]["$ref"], "#/components/schemas/Job");
    assert!(document["paths"]["/v1/windows/{name}"]["delete"]["responses"]["2XX"].get("content").is_none());
}
