//! Whatever an agent prints, its reader neither fails nor depends on how the bytes are cut, and what is counted never
//! becomes less.
#![no_main]

use kubeopencode_agents::{Event, Facts, Profile, Reader};
use libfuzzer_sys::fuzz_target;

/// What comes of these pieces.
fn read(profile: &Profile, pieces: &[&[u8]]) -> (Vec<Event>, Facts, u64) {
    let (mut events, mut facts) = (Vec::new(), Facts::default());
    let mut reader = Reader::new(profile);
    let mut note = |event: Event| {
        let before = (facts.steps, facts.tools, facts.refused);
        facts.note(&event);
        let after = (facts.steps, facts.tools, facts.refused);
        assert!(before.0 <= after.0 && before.1 <= after.1 && before.2 <= after.2);
        events.push(event);
    };
    for piece in pieces {
        reader.feed(piece, &mut note);
    }
    reader.finish(&mut note);
    let _ = facts.unfinished(profile);
    (events, facts, reader.unread())
}

fuzz_target!(|data: &[u8]| {
    // The first bytes say which agent it is, and how the rest is cut.
    let Some(([agent, cut], stream)) = data.split_first_chunk::<2>() else {
        return;
    };
    let profile = &Profile::ALL[usize::from(*agent) % Profile::ALL.len()];
    let at_once = read(profile, &[stream]);
    let pieces: Vec<&[u8]> = stream.chunks(usize::from(*cut).max(1)).collect();
    assert_eq!(at_once, read(profile, &pieces));
});
