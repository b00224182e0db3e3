use super::*;

/// Found by tests/crash: any refusal but "not empty" was taken for a removal, and the error told of it much later,
/// by a result that was not the one signed.
#[test]
fn a_directory_that_cannot_be_removed_is_an_error() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("a"), "a").unwrap();
    let dir = Dir::open(root.path()).unwrap();
    // Never by this name.
    assert_eq!(dir.remove(b".").unwrap_err().raw_os_error(), Some(Errno::EINVAL as i32));
    assert!(root.path().is_dir());
}
