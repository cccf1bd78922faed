//! Writing the report so that it fits: a termination message is cut by the kubelet where it is too long, and half a
//! JSON object says nothing.

use std::{fs, io, path::Path};

use kubeopencode_engine::handover::{CheckoutReport, MAX_TERMINATION_MESSAGE, Report};

/// Longest text of an error, in bytes.
const LONGEST_ERROR: usize = 512;
/// The same, of one checkout.
const LONGEST_CHECKOUT_ERROR: usize = 200;
/// The same, of a push; what `git-push` says is a little shorter.
const LONGEST_PUSH_MESSAGE: usize = 360;

/// Writes the report as JSON of at most [`MAX_TERMINATION_MESSAGE`] bytes.
pub(super) fn write(path: &Path, report: Report) -> io::Result<()> {
    fs::write(path, fit(report)?)
}

/// Checkouts lose their errors first, then whole checkouts go, from the end, those last whose commits were not pushed; what
/// happened to the agent stays.
fn fit(mut report: Report) -> io::Result<Vec<u8>> {
    if let Some(error) = &mut report.error {
        cut(error, LONGEST_ERROR);
    }
    for checkout in &mut report.checkouts {
        if let Some(error) = &mut checkout.error {
            cut(error, LONGEST_CHECKOUT_ERROR);
        }
        if let Some(message) = push_message(checkout) {
            cut(message, LONGEST_PUSH_MESSAGE);
        }
    }
    let mut json = serde_json::to_vec(&report)?;
    if json.len() > MAX_TERMINATION_MESSAGE {
        for checkout in &mut report.checkouts {
            if let Some(error) = &mut checkout.error {
                "no room for it in the report".clone_into(error);
            }
            if let Some(message) = push_message(checkout) {
                "the log of git-push says why".clone_into(message);
            }
        }
        json = serde_json::to_vec(&report)?;
    }
    while json.len() > MAX_TERMINATION_MESSAGE && drop_one(&mut report.checkouts) {
        json = serde_json::to_vec(&report)?;
    }
    if json.len() > MAX_TERMINATION_MESSAGE {
        // Escapes can make a text six times as long.
        report.error = Some("the agent could not be started; its log says why".to_owned());
        json = serde_json::to_vec(&report)?;
    }
    Ok(json)
}

fn push_message(checkout: &mut CheckoutReport) -> Option<&mut String> {
    checkout.pushed.as_mut()?.message.as_mut()
}

/// Leaves one out that matters least; false when there is none.
fn drop_one(checkouts: &mut Vec<CheckoutReport>) -> bool {
    let is_fine = |checkout: &CheckoutReport| {
        let pushed = checkout.pushed.as_ref();
        pushed.is_none_or(|pushed| !pushed.state.is_loss())
    };
    match checkouts.iter().rposition(is_fine) {
        Some(at) => drop(checkouts.remove(at)),
        None if checkouts.pop().is_none() => return false,
        None => {}
    }
    true
}

/// Cuts at a character, and says so with an ellipsis.
fn cut(text: &mut String, longest: usize) {
    if text.len() > longest {
        let at = (0..=longest.saturating_sub(3))
            .rev()
            .find(|at| text.is_char_boundary(*at))
            .unwrap_or(0);
        text.truncate(at);
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_always_fits_and_keeps_what_happened() {
        let checkout = CheckoutReport {
            path: "/workspace/a".repeat(20),
            error: Some("ü\u{1}".repeat(500)),
            ..CheckoutReport::default()
        };
        let report = Report {
            exit_code: Some(3),
            timed_out_after_seconds: Some(u64::MAX),
            error: Some("\u{1}".repeat(4000)),
            checkouts: vec![checkout; 50],
            ..Report::default()
        };
        let json = fit(report).unwrap();
        assert!(json.len() <= MAX_TERMINATION_MESSAGE, "{}", json.len());
        let read: Report = serde_json::from_slice(&json).unwrap();
        assert_eq!(read.exit_code, Some(3));
        assert_eq!(read.timed_out_after_seconds, Some(u64::MAX));
        assert!(read.error.is_some());

        let report = Report {
            exit_code: Some(0),
            checkouts: vec![
                CheckoutReport {
                    path: "/workspace/repository".to_owned(),
                    dirty: Some(true),
                    ..CheckoutReport::default()
                };
                500
            ],
            ..Report::default()
        };
        let json = fit(report).unwrap();
        assert!(json.len() <= MAX_TERMINATION_MESSAGE);
        let read: Report = serde_json::from_slice(&json).unwrap();
        assert!(
            read.checkouts.len() > 20,
            "as many as fit: {}",
            read.checkouts.len()
        );
    }
}
