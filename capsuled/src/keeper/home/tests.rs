//! The keeper's place and its registry, on real files.

use super::*;

#[test]
fn registry_is_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    fs::set_permissions(dir.path(), mode).unwrap();
    let home = Home::claim(dir.path(), Uuid::nil()).unwrap();
    let mut registry = home.register(Some(Path::new("/somewhere"))).unwrap();
    let me = Pid::this();
    registry.add(me);
    registry.add(Pid::parent());
    registry.remove(Pid::parent());
    let former = home.former();
    assert_eq!(former.cgroup.as_deref(), Some(Path::new("/somewhere")));
    assert!(former.same_boot);
    assert_eq!(former.processes, [(me.as_raw(), start_time(me).unwrap())]);
}

#[test]
fn a_removed_place_is_taken_again_unless_another_keeper_has_it() {
    let above = tempfile::tempdir().unwrap();
    let dir = above.path().join("r");
    let make = || fs::DirBuilder::new().mode(0o700).create(&dir).unwrap();
    make();
    let mut home = Home::claim(&dir, Uuid::nil()).unwrap();
    let _first = home.listen().unwrap();
    assert!(home.is_in_place());
    fs::remove_file(socket_path(&dir, Uuid::nil())).unwrap();
    assert!(!home.is_in_place());
    let _second = home.restore().unwrap();
    fs::remove_dir_all(&dir).unwrap();
    let _third = home.restore().unwrap();
    assert!(home.is_in_place());
    UnixStream::connect(socket_path(&dir, Uuid::nil())).unwrap();

    fs::remove_dir_all(&dir).unwrap();
    make();
    let mut other = Home::claim(&dir, Uuid::nil()).unwrap();
    let _others = other.listen().unwrap();
    assert!(!home.is_in_place());
    assert!(matches!(home.restore(), Err(KeeperError::AlreadyRunning)));
    home.unlisten();
    assert!(other.is_in_place(), "a keeper removes no other's socket");
}

#[test]
fn a_pid_with_another_start_time_is_never_signalled() {
    // Were the start time not compared, this test process would be killed.
    let me = Pid::this();
    let text = format!("boot {}\ncgroup \n{me} {}\n", boot_id(), start_time(me).unwrap() + 1);
    Former::parse(&text).kill_processes();
    let other_boot = format!("boot other\ncgroup \n{me} {}\n", start_time(me).unwrap());
    Former::parse(&other_boot).kill_processes();
}

#[test]
fn stores_made_at_the_same_time_have_names_of_their_own() {
    let made: std::collections::HashSet<_> = (0..100).map(|_| short(Uuid::now_v7())).collect();
    assert_eq!(made.len(), 100);
}

#[test]
fn an_open_folder_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o750);
    fs::set_permissions(dir.path(), mode).unwrap();
    let refused = Home::claim(dir.path(), Uuid::nil()).unwrap_err();
    assert!(matches!(refused, KeeperError::Unsafe { .. }), "{refused}");
}
