use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use super::*;

/// A host that is a script.
fn host(home: &Path, script: &str) -> PathBuf {
    let program = home.join("host");
    fs::write(&program, format!("#!/bin/sh\n{script}\n")).expect("written");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("made executable");
    program
}

fn opened(script: &str, patience: Duration) -> Result<Box<dyn Session>, RuntimeError> {
    let home = tempfile::tempdir().expect("temporary folder");
    let program = host(home.path(), script);
    let artifact = Artifact { format: "onnx", dir: "some/folder".into(), files: Vec::new() };
    let options = Options { patience: Some(patience), ..Options::DEFAULT };
    open("onnxruntime", &program, &artifact, &options, &[])
}

fn refusal(script: &str) -> String {
    opened(script, Duration::from_secs(60)).err().expect("refused").to_string()
}

const OPENED: &str = r#"read x; echo '{"opened":{"engine":{"name":"e","version":"1","settings":"s"},"limit_tokens":7,"rows_at_once":2}}'"#;

#[test]
fn an_engine_that_aborts_hangs_or_ends_is_a_failure_with_its_last_words() {
    let text = refusal("read x; echo 'GGML_ASSERT(il < n_layer) failed' >&2; kill -ABRT $$");
    assert_eq!(
        text,
        "onnxruntime: the process of the engine broke off: it ended with signal 6; its last words:\n  \
         GGML_ASSERT(il < n_layer) failed"
    );
    assert_eq!(
        refusal("read x; exit 0"),
        "onnxruntime: the process of the engine broke off: it ended with exit code 0"
    );
    let start = Instant::now();
    let text = opened("sleep 100", Duration::from_secs(1)).err().expect("refused").to_string();
    assert!(text.contains("no answer in 1 s") && start.elapsed() < Duration::from_secs(30), "{text}");
}

#[test]
fn an_engine_that_ends_while_it_works_fails_that_call_and_those_after() {
    let mut session = opened(&format!("{OPENED}; read y; kill -SEGV $$"), Duration::from_secs(60)).expect("opened");
    assert_eq!((session.limit_tokens(), session.rows_at_once()), (Some(7), Some(2)));
    assert_eq!(session.engine(), Engine { name: "e".into(), version: "1".into(), settings: "s".into() });
    let ids = Tensor::i64([1, 1], vec![0]);
    let text = session.decode(&ids).expect_err("it is gone").to_string();
    assert!(text.ends_with("it ended with signal 11"), "{text}");
    assert!(session.encode(&Feeds::new()).is_err());
    let checks = session.checks();
    assert_eq!(checks.len(), 1);
    assert_eq!(checks[0].outcome, crate::report::Outcome::Failed);
}

#[test]
fn refusals_keep_whose_they_are_and_the_path_that_the_user_wrote() {
    let far = std::path::absolute("some/folder").expect("absolute").display().to_string();
    let text = refusal(&format!(
        r#"read x; echo '{{"failed":{{"runtime":"llama.cpp","message":"{far}/model.gguf: too short"}}}}'"#
    ));
    assert_eq!(text, "llama.cpp: some/folder/model.gguf: too short");
    let reply = r#"{"unavailable":{"runtime":"htp-simulator","why":"nowhere","install":"get it"}}"#;
    let error = opened(&format!("read x; echo '{reply}'"), Duration::from_secs(60)).err().expect("refused");
    assert!(matches!(error, RuntimeError::Unavailable { runtime: "htp-simulator", .. }), "{error}");
}

#[test]
fn announced_lengths_are_not_believed() {
    let ids = Tensor::i64([1, 1], vec![0]);
    for (reply, expected) in [
        (
            r#"{"decoded":{"name":"logits","dtype":"f32","shape":[99999999,99999999,99999]}}"#,
            "expected logits, found a shape",
        ),
        (
            r#"{"decoded":{"name":"logits","dtype":"f32","shape":[1,1,100000000]}}"#,
            "expected 400000000 bytes of logits, found 0",
        ),
        (r#""encoded""#, "expected logits, found something else"),
    ] {
        let script = format!("{OPENED}; read y; echo '{reply}'; exec 1>&-; cat >/dev/null");
        let text = opened(&script, Duration::from_secs(60)).expect("opened").decode(&ids).expect_err("refused");
        assert!(text.to_string().contains(expected), "{text}");
    }
}
