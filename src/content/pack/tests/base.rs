//! Content that nodes have already: shifted, under another name, or twice.

use super::*;

#[test]
fn a_line_inserted_in_a_file_travels_alone() {
    let mut site = Site::new();
    let old = noise(1, 400_000);
    write(&site.staging, "log", &old, time(1));
    site.start();
    write(&site.staging, "log", &[&old[..1_000], b"one more line", &old[1_000..]].concat(), time(2));
    let packed = site.publish();
    let commands = site.commands(&packed);
    assert_eq!(names(&commands), ["splice log"]);
    assert_eq!(item(&commands, "log").unwrap().decoded_len, 13);
    site.apply(&packed);
}

fn rename(site: &Site, from: &str, to: &str) {
    let to = site.staging.join(to);
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::rename(site.staging.join(from), to).unwrap();
}

/// Publishes, checks that no data travels, and returns the commands but for those of directories.
fn without_data(site: &mut Site) -> Vec<String> {
    let packed = site.publish();
    assert_eq!(packed.shape.unwrap().data_len, 0);
    let mut names = names(&site.commands(&packed));
    names.retain(|name| !name.starts_with("utimes") && !name.starts_with("mkdir"));
    site.apply(&packed);
    names
}

#[test]
fn a_renamed_file_and_a_renamed_directory_send_nothing() {
    let mut site = Site::new();
    for number in 0..5 {
        write(&site.staging, &format!("old/{number}"), &noise(number, 10_000), time(number as i64));
    }
    write(&site.staging, "one", &noise(9, 700), time(9));
    site.start();
    rename(&site, "one", "z/other");
    rename(&site, "old", "new");
    let expected = [
        "remove old",
        "remove one",
        "move new/0",
        "move new/1",
        "move new/2",
        "move new/3",
        "move new/4",
        "move z/other",
    ];
    assert_eq!(without_data(&mut site), expected);
}

#[test]
fn a_rotated_log_moves_along() {
    let mut site = Site::new();
    write(&site.staging, "log", &noise(1, 20_000), time(1));
    write(&site.staging, "log.1", &noise(2, 20_000), time(2));
    site.start();
    rename(&site, "log.1", "log.2");
    rename(&site, "log", "log.1");
    assert_eq!(without_data(&mut site), ["remove log", "move log.1", "move log.2"]);
    // As it goes on, it has another file of its name.
    rename(&site, "log.1", "log");
    assert_eq!(without_data(&mut site), ["remove log.1", "move log"]);
}

#[test]
fn a_copy_of_what_stays_sends_nothing() {
    let mut site = Site::new();
    write(&site.staging, "a", &noise(1, 50_000), time(1));
    site.start();
    for (number, name) in ["b", "c/d"].into_iter().enumerate() {
        write(&site.staging, name, &noise(1, 50_000), time(2 + number as i64));
    }
    assert_eq!(without_data(&mut site), ["copy b", "copy c/d"]);
}

#[test]
fn a_renamed_file_with_another_mode_or_time_is_copied() {
    let mut site = Site::new();
    write(&site.staging, "a", &noise(1, 5_000), time(1));
    write(&site.staging, "b", &noise(2, 5_000), time(2));
    site.start();
    rename(&site, "a", "x");
    set_mode(&site.staging.join("x"), 0o600);
    rename(&site, "b", "y");
    set_mtime(&site.staging.join("y"), time(7));
    assert_eq!(without_data(&mut site), ["remove a", "remove b", "copy x", "copy y"]);
}

#[test]
fn one_of_two_names_that_are_renamed_stays_a_file_of_its_own() {
    let mut site = Site::new();
    write(&site.staging, "a", &noise(1, 5_000), time(1));
    fs::hard_link(site.staging.join("a"), site.staging.join("b")).unwrap();
    site.start();
    // A file of its own with the same content, mode and time, in the place of one name.
    let bytes = fs::read(site.staging.join("a")).unwrap();
    fs::remove_file(site.staging.join("a")).unwrap();
    write(&site.staging, "c", &bytes, time(1));
    assert_eq!(without_data(&mut site), ["remove a", "copy c"]);
}

#[test]
fn two_files_made_of_one_that_is_gone_do_not_become_one() {
    let mut site = Site::new();
    write(&site.staging, "a", &noise(1, 5_000), time(1));
    site.start();
    fs::remove_file(site.staging.join("a")).unwrap();
    write(&site.staging, "b", &noise(1, 5_000), time(1));
    write(&site.staging, "c", &noise(1, 5_000), time(1));
    assert_eq!(without_data(&mut site), ["remove a", "move b", "copy c"]);
}

#[test]
fn a_shadow_that_was_written_to_is_no_origin() {
    let mut site = Site::new();
    write(&site.staging, "a", &noise(1, 5_000), time(1));
    site.start();
    rename(&site, "a", "b");
    write(&site.shadow, "a", &noise(2, 5_000), time(3));
    let packed = site.publish();
    assert_eq!(names(&site.commands(&packed)), ["remove a", "put b"]);
}

#[test]
fn metadata_alone_sends_no_content() {
    let mut site = Site::new();
    write(&site.staging, "mode", &noise(1, 5_000), time(1));
    write(&site.staging, "time", &noise(2, 5_000), time(2));
    site.start();
    set_mode(&site.staging.join("mode"), 0o600);
    set_mtime(&site.staging.join("time"), time(3));
    assert_eq!(without_data(&mut site), ["chmod mode", "patch time"]);
}

#[test]
fn a_checksum_finds_what_looks_unchanged() {
    let mut site = Site::new();
    write(&site.staging, "f", &noise(1, 5_000), time(1));
    site.start();
    let before = fs::metadata(site.staging.join("f")).unwrap();
    site.publish();
    let file = fs::File::options().write(true).open(site.staging.join("f")).unwrap();
    file.write_all_at(b"disguised", 100).unwrap();
    set_mtime(&site.staging.join("f"), time(1));
    assert_eq!(fs::metadata(site.staging.join("f")).unwrap().ino(), before.ino());
    assert!(site.publish().shape.is_none(), "by its looks nothing changed");
    site.checksum = true;
    let packed = site.publish();
    assert_eq!(names(&site.commands(&packed)), ["patch f"]);
    assert_eq!(item(&site.commands(&packed), "f").unwrap().decoded_len, 9);
}
