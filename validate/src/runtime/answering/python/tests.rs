use std::os::unix::fs::PermissionsExt;

use super::*;

static ENGINE: PythonAnswerer = PythonAnswerer {
    name: "an engine",
    package: "no_such_package",
    variable: "TREFOIL_NO_SUCH_PYTHON",
    install: "pip install it",
    form: Form::Sound,
    script: "",
};

/// A far side with a shell script of ours in its place.
fn child(script: &str) -> Result<Far, RuntimeError> {
    let home = tempfile::tempdir().expect("temporary folder");
    let python = home.path().join("python");
    std::fs::write(&python, format!("#!/bin/sh\n{script}\n")).expect("written");
    std::fs::set_permissions(&python, std::fs::Permissions::from_mode(0o755)).expect("made executable");
    let patience = Patience::of(&Options::DEFAULT).expect("constants");
    let mut far = ENGINE.start(&python, Path::new("model.gguf"), 1, &json!({}), patience)?;
    far.call(&json!({ "call": "versions" }), Vec::new())?;
    Ok(far)
}

const VERSIONS: &str = r#"read x; echo '{"ok":true,"version":"4","told":"cpu"}'; read y"#;

fn refused(script: &str, question: Question) -> String {
    child(&format!("{VERSIONS}; {script}")).expect("greeted").answer(&[question]).expect_err("refused").to_string()
}

#[test]
fn an_engine_that_is_not_there_is_unavailable_with_its_command() {
    let expected =
        "not installed in the environment of --python, TREFOIL_NO_SUCH_PYTHON, $VIRTUAL_ENV or $CONDA_PREFIX";
    for (named, expected) in [
        (None, expected),
        (Some("/no-such-folder/python"), "TREFOIL_NO_SUCH_PYTHON is /no-such-folder/python, which is not there"),
    ] {
        let error = ENGINE.python(named.map(PathBuf::from), &[]).expect_err("not there").to_string();
        assert_eq!(error, format!("an engine is not available: {expected}\nhint: pip install it"));
    }
    let error = child(r#"read x; echo '{"ok":false,"error":"absent","lacks":"no_such_package"}'"#).err();
    assert!(matches!(error, Some(RuntimeError::Unavailable { .. })), "{error:?}");
}

#[test]
fn a_clip_is_sent_as_floats_and_a_text_comes_back() {
    // Two floats: 8 bytes, of which the last are those of 1.0.
    let script = r#"head -c 8 | od -An -tx1 | grep -q '00 00 00 3f 00 00 80 3f' && echo '{"ok":true,"text":" a b","ended":false}'"#;
    let mut far = child(&format!("{VERSIONS}; {script}")).expect("greeted");
    let said = far.answer(&[Question::Sound(vec![0.5, 1.0])]).expect("said");
    assert_eq!(said, [Answer { words: Words::Text(" a b".to_owned()), ended: false }]);
}

#[test]
fn what_is_no_answer_is_told() {
    let clip = || Question::Sound(vec![0.5]);
    for (reply, expected) in [
        (r#"{"ok":true,"text":"a"}"#, "expected an answer, found none"),
        (r#"{"ok":false,"error":"InputTooLong: 31 s"}"#, "an engine: InputTooLong: 31 s"),
        ("not json", "expected a reply in JSON"),
    ] {
        let error = refused(&format!("echo '{reply}'"), clip());
        assert!(error.contains(expected), "{error}");
    }
    let error = refused("echo 'ggml_abort' >&2; kill -6 $$", clip());
    assert!(error.contains("it ended with signal 6") && error.contains("ggml_abort"), "{error}");
    let error = refused("", Question::Text { text: "a", tokens: &[] });
    assert_eq!(error, "an engine: expected Sound to be asked, found another form");
}
