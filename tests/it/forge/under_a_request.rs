//! The page under a pull request or a merge request: written once, and then in place of itself.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use serde_json::{Value, json};

use super::{Machine, good};
use crate::cli::text;

/// A stand-in for `gh` that has the comments of a file, and writes down what it is asked for.
const GH: &str = r#"#!/bin/bash
echo "$*" >>asked
case "$*" in
*--paginate*) cat old ;;
*) [ ! -e refuses ] ;;
esac
"#;

#[test]
fn a_comment_is_written_once_and_then_replaced() {
    let machine = Machine::new();
    machine.program("bin/gh", GH);
    machine.write("page.md", "<!-- trefoil build -->\n\nWhat was found.\n");
    let mut asked = Vec::new();
    for old in ["", "17\n23\n"] {
        machine.write("old", old);
        machine.write("asked", "");
        let arguments = ["someone/models", "5", "page.md"];
        good(machine.command("ci/github/comment.sh").args(arguments).output().expect("bash starts"));
        asked.push(machine.read("asked").lines().last().expect("asked").to_owned());
    }
    assert_eq!(
        asked,
        [
            "api --method POST repos/someone/models/issues/5/comments --field body=@page.md --silent",
            "api --method PATCH repos/someone/models/issues/comments/17 --field body=@page.md --silent",
        ]
    );
}

#[test]
fn a_token_that_may_not_write_is_a_warning() {
    let machine = Machine::new();
    machine.program("bin/gh", GH);
    machine.recipe("good", super::KEPT);
    assert_eq!(machine.build(&["--no-validate"]), 0);
    for (name, content) in [("old", ""), ("refuses", "")] {
        machine.write(name, content);
    }
    let pull_request = [("COMMENT", "true"), ("NUMBER", "5")];
    assert!(machine.say(&pull_request).starts_with("::warning title=trefoil::"));
    assert!(
        machine.read("summary.md").contains("\n- `second`: made, not validated\n"),
        "{}",
        machine.read("summary.md")
    );
    std::fs::remove_file(machine.path("refuses")).expect("removed");
    assert_eq!(machine.say(&pull_request), "");
    assert!(machine.read("asked").ends_with("issues/5/comments --field body=@state/page.md --silent\n"));
}

/// The method, the path and the body of a request, with the token that came with it.
fn request(stream: &TcpStream) -> (String, String, Value) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).expect("a request");
    let first = line.trim_end().rsplit_once(' ').expect("a version").0.to_owned();
    let (mut token, mut bytes) = (String::new(), 0);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).expect("a header");
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        match name.to_lowercase().as_str() {
            "private-token" => token = value.to_owned(),
            "content-length" => bytes = value.parse().expect("a number"),
            _ => {}
        }
    }
    let mut body = vec![0; bytes];
    reader.read_exact(&mut body).expect("a body");
    (first, token, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

/// A GitLab that is user 7 and has these notes on two pages, and what it was asked for.
fn gitlab(machine: &Machine, notes: [Value; 2]) -> Vec<(String, String, Value)> {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let server = thread::spawn(move || {
        let mut asked = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().expect("a caller");
            let one = request(&stream);
            let (next, answer) = match one.0.as_str() {
                path if path.ends_with("/user") => ("", json!({ "id": 7 })),
                path if path.contains("&page=1") => ("2", notes[0].clone()),
                path if path.contains("&page=2") => ("", notes[1].clone()),
                _ => ("", json!({})),
            };
            let (is_last, answer) = (!one.0.starts_with("GET "), answer.to_string());
            let head = format!("HTTP/1.1 200 OK\r\nX-Next-Page: {next}\r\nContent-Length: {}\r\n", answer.len());
            write!(stream, "{head}Connection: close\r\n\r\n{answer}").expect("answered");
            asked.push(one);
            if is_last {
                return asked;
            }
        }
    });
    let mut command = machine.command("ci/gitlab/note.py");
    command.arg("page.md").env("CI_API_V4_URL", format!("http://{address}/api/v4")).env("no_proxy", "127.0.0.1");
    command.envs([("TREFOIL_GITLAB_TOKEN", "secret"), ("CI_PROJECT_ID", "3"), ("CI_MERGE_REQUEST_IID", "9")]);
    good(command.output().expect("Python starts"));
    server.join().expect("no panic")
}

#[test]
fn a_note_is_written_once_and_then_replaced() {
    let machine = Machine::new();
    machine.write("page.md", "<!-- trefoil build -->\n\nWhat was found.\n");
    let note = |id: i32, author: i32, body: &str| json!({ "id": id, "author": { "id": author }, "body": body });
    let of_others = json!([note(1, 7, "Hello."), note(2, 8, "<!-- trefoil build -->\nBy another."), note(4, 7, "")]);
    for (second, expected) in [
        (json!([]), "POST /api/v4/projects/3/merge_requests/9/notes"),
        (json!([note(6, 7, "<!-- trefoil build -->\n\nOld.")]), "PUT /api/v4/projects/3/merge_requests/9/notes/6"),
    ] {
        let asked = gitlab(&machine, [of_others.clone(), second]);
        let (last, _, body) = asked.last().expect("asked");
        assert_eq!((last.as_str(), &body["body"]), (expected, &Value::from(machine.read("page.md"))));
        assert!(asked.iter().all(|(_, token, _)| token == "secret"), "{asked:?}");
    }

    let output = machine.command("ci/gitlab/note.py").arg("page.md").output().expect("Python starts");
    let said = text(&output.stderr);
    assert!(
        output.status.success() && said.starts_with("note: no note is written without TREFOIL_GITLAB_TOKEN"),
        "{said}"
    );
}
