//! What is read from streams that the real agents printed. Each file of `fixtures` is one run; its name says what
//! happened, and the exit code.
#![expect(clippy::unwrap_used, reason = "in a test, that is the failure")]

use std::{fmt::Write as _, fs, path::PathBuf};

use kubeopencode_agents::{Event, Facts, Profile, Reader};
use proptest::prelude::*;
use serde_json::{Value, json};

fn fixtures() -> Vec<(String, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut found: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            (
                path.file_stem().unwrap().to_string_lossy().into_owned(),
                fs::read(path).unwrap(),
            )
        })
        .collect();
    found.sort();
    found
}

fn read(profile: &Profile, pieces: &[&[u8]]) -> (Vec<Event>, Facts) {
    let (mut events, mut facts) = (Vec::new(), Facts::default());
    let mut reader = Reader::new(profile);
    let mut note = |event: Event| {
        facts.note(&event);
        events.push(event);
    };
    for piece in pieces {
        reader.feed(piece, &mut note);
    }
    reader.finish(&mut note);
    (events, facts)
}

#[test]
fn recorded_streams_say_what_happened() {
    for (name, bytes) in fixtures() {
        let agent = Profile::of_recording(&name);
        let (events, facts) = read(agent, &[&bytes]);
        let mut text = String::new();
        for event in events {
            writeln!(text, "{event:?}").unwrap();
        }
        writeln!(
            text,
            "\n{facts:#?}\nunfinished: {:?}",
            facts.unfinished(agent)
        )
        .unwrap();
        insta::assert_snapshot!(name, text);
    }
}

#[test]
fn a_stream_that_is_cut_never_says_that_the_work_is_done() {
    for (name, bytes) in fixtures() {
        let agent = Profile::of_recording(&name);
        let (_, whole) = read(agent, &[&bytes]);
        if whole.unfinished(agent).is_some() {
            continue;
        }
        // Before the last line that is an event, the end has not been told. Before the first, nothing has.
        let last = bytes
            .trim_ascii_end()
            .iter()
            .rposition(|byte| *byte == b'\n')
            .unwrap();
        for cut in (0..last).step_by(97) {
            let (events, facts) = read(agent, &[&bytes[..cut]]);
            let begun = |event: &Event| {
                *event == Event::StepBegan
                    || (agent.tells_its_end && matches!(event, Event::Session(_)))
            };
            if events.iter().any(begun) {
                assert!(facts.unfinished(agent).is_some(), "{name} cut at {cut}");
            }
        }
    }
}

fn within<'a>(value: &'a mut Value, path: &[usize]) -> &'a mut Value {
    let length = match value {
        Value::Object(fields) => fields.len(),
        Value::Array(items) => items.len(),
        _ => 0,
    };
    let Some((step, rest)) = path.split_first().filter(|_| length > 0) else {
        return value;
    };
    match value {
        Value::Object(fields) => within(fields.values_mut().nth(step % length).unwrap(), rest),
        Value::Array(items) => within(&mut items[step % length], rest),
        other => other,
    }
}

proptest! {
    #[test]
    fn pieces_and_noise_between_lines_do_not_matter(
        index in 0..64_usize,
        size in 1..3000_usize,
        noise in prop::collection::vec(any::<u8>().prop_filter("no line end", |byte| *byte != b'\n'), 0..40),
    ) {
        let fixtures = fixtures();
        let (name, bytes) = &fixtures[index % fixtures.len()];
        let expected = read(Profile::of_recording(name), &[bytes]);
        let mut noisy = Vec::new();
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            noisy.extend_from_slice(b"\xff{");
            noisy.extend_from_slice(&noise);
            noisy.push(b'\n');
            noisy.extend_from_slice(line);
        }
        let pieces: Vec<&[u8]> = noisy.chunks(size).collect();
        prop_assert_eq!(read(Profile::of_recording(name), &pieces), expected);
    }

    #[test]
    fn fields_of_another_type_mean_nothing(index in 0..64_usize, line in 0..64_usize, path in prop::collection::vec(0..16_usize, 1..7), with in 0..5_usize) {
        let fixtures = fixtures();
        let (name, bytes) = &fixtures[index % fixtures.len()];
        // Some print lines that are no events.
        let lines = bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
        let lines: Vec<Value> = lines.collect();
        let mut value = lines[line % lines.len()].clone();
        let place = within(&mut value, &path);
        *place = [json!(null), json!(-1), json!("x"), json!([1]), json!({"a": 1e300})][with].clone();
        let changed = value.to_string();
        let _ = read(Profile::of_recording(name), &[changed.as_bytes()]);
    }
}
