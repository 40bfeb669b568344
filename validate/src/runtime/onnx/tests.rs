use std::fs;
use std::path::Path;

use super::fetch;
use super::version;

#[test]
fn the_library_is_told_from_its_neighbours_and_the_newest_is_taken() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (prefix, suffix) = (std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    let plain = format!("{prefix}onnxruntime{suffix}");
    for name in [format!("{prefix}onnxruntime_providers_shared{suffix}"), "onnxruntime_pybind11_state.so".to_owned()] {
        fs::write(folder.path().join(name), "").expect("written");
    }
    assert_eq!(fetch::find(folder.path()), None);
    fs::write(folder.path().join(&plain), "").expect("written");
    assert_eq!(fetch::find(folder.path()), Some(folder.path().join(&plain)));
    if cfg!(target_os = "linux") {
        fs::write(folder.path().join("libonnxruntime.so.1.32.0"), "").expect("written");
        assert_eq!(fetch::find(folder.path()), Some(folder.path().join("libonnxruntime.so.1.32.0")));
    }
    assert_eq!(fetch::find(Path::new("no such folder")), None);
}

#[test]
fn the_version_is_read_off_the_file_or_the_package_around_it() {
    let home = tempfile::tempdir().expect("temporary folder");
    let capi = home.path().join("site-packages/onnxruntime/capi");
    fs::create_dir_all(&capi).expect("made");
    fs::create_dir(home.path().join("site-packages/onnxruntime-1.32.0.dist-info")).expect("made");
    for name in ["libonnxruntime.so.1.27.1", "libonnxruntime.1.27.1.dylib"] {
        fs::write(capi.join(name), "").expect("written");
        assert_eq!(version(&capi.join(name)), "1.27.1");
    }
    fs::write(capi.join("onnxruntime.dll"), "").expect("written");
    assert_eq!(version(&capi.join("onnxruntime.dll")), "1.32.0");
}
