//! Taking secrets out of whatever git prints and an agent tells, before anybody sees it.

use std::{fs, path::Path};

use base64::Engine as _;
use kubeopencode_engine::handover::Secrets;

const HIDDEN: &str = "***";
/// Shorter ones are words of every sentence; what remains of them says nothing.
const SHORTEST: usize = 3;
/// The same, of what an agent got: nobody knows that it is a password.
const SHORTEST_VALUE: usize = 8;
/// A file that is longer has more in it than secrets.
const LONGEST_FILE: u64 = 1 << 20;

/// Variables that are no secrets where all of a Secret become variables, and nobody says which.
const PUBLIC: [&str; 11] = [
    "HOME",
    "HOSTNAME",
    "LANG",
    "PATH",
    "PWD",
    "SHELL",
    "TASK_NAME",
    "TASK_NAMESPACE",
    "TERM",
    "USER",
    "WORKSPACE_DIR",
];

/// What must not be seen.
#[derive(Clone, Default)]
pub(crate) struct Scrub(Vec<String>);

impl Scrub {
    /// Nothing but what looks like a password in a URL.
    pub fn new() -> Self {
        Self::default()
    }

    /// Hides a secret in the forms that git and curl may print it in: as it is, percent-encoded, and as basic
    /// authentication together with its user.
    pub fn hide(&mut self, user: &str, secret: &str) {
        let basic = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{secret}"));
        for form in [basic, percent(secret), secret.to_owned()] {
            if form.len() >= SHORTEST && !self.0.contains(&form) {
                self.0.push(form);
            }
        }
    }

    /// What an agent knows: the values of these variables of this process, and what is in these files.
    pub fn of_agent(secrets: &Secrets) -> Self {
        let mut scrub = Self::new();
        for (name, value) in std::env::vars_os() {
            let name = name.to_string_lossy();
            let named = secrets.variables.iter().any(|secret| *secret == name);
            let ours = name.starts_with("KUBE") || PUBLIC.contains(&&*name);
            if named || (secrets.all_variables && !ours) {
                scrub.hide_value(&value.to_string_lossy());
            }
        }
        for path in &secrets.files {
            scrub.hide_file(Path::new(path));
        }
        scrub
    }

    /// A file, or those of a directory. What cannot be read was no secret of the agent either.
    fn hide_file(&mut self, path: &Path) {
        if let Ok(entries) = fs::read_dir(path) {
            for entry in entries.flatten() {
                if fs::metadata(entry.path()).is_ok_and(|file| file.is_file()) {
                    self.hide_file(&entry.path());
                }
            }
        } else if fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() <= LONGEST_FILE)
            && let Ok(bytes) = fs::read(path)
        {
            self.hide_value(&String::from_utf8_lossy(&bytes));
        }
    }

    /// Each line of it by itself, and all of it in base64.
    fn hide_value(&mut self, value: &str) {
        let encoded = base64::engine::general_purpose::STANDARD.encode(value);
        // The frame of a key in PEM is the same for all.
        let lines = value
            .lines()
            .map(str::trim)
            .filter(|line| line.len() >= SHORTEST_VALUE && !line.starts_with("-----"));
        let encoded = Some(encoded.as_str()).filter(|_| value.len() >= SHORTEST_VALUE);
        for form in lines.chain(encoded) {
            if !self.0.iter().any(|known| known == form) {
                self.0.push(form.to_owned());
            }
        }
        // One may be the beginning of another.
        self.0.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    }

    /// The text without them.
    pub fn clean(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.0 {
            text = text.replace(secret, HIDDEN);
        }
        without_userinfo(&text)
    }
}

fn percent(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// `scheme://user:password@host` without the password, for any that came from elsewhere (a submodule, a proxy).
fn without_userinfo(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        out.push_str(before);
        out.push_str("://");
        let end = after
            .find(|c: char| c == '/' || c.is_whitespace() || c == '\'' || c == '"')
            .unwrap_or(after.len());
        let authority = &after[..end];
        rest = match authority.rsplit_once('@') {
            Some((user, _)) if user.contains(':') => {
                out.push_str(HIDDEN);
                &after[user.len()..]
            }
            _ => after,
        };
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_that_an_agent_got_are_secrets_line_by_line() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(
            folder.path().join("key"),
            "-----BEGIN KEY-----\nfirst line\nsecond line\n-----END KEY-----\n",
        )
        .expect("a file");
        let scrub = Scrub::of_agent(&Secrets {
            files: vec![folder.path().display().to_string(), "/nowhere".into()],
            ..Secrets::default()
        });
        assert_eq!(
            scrub.clean("-----BEGIN KEY-----: first line, second line"),
            "-----BEGIN KEY-----: ***, ***"
        );
    }

    #[test]
    fn no_form_of_a_secret_gets_through() {
        let mut scrub = Scrub::new();
        scrub.hide("me", "p@ss/wörd");
        let basic = base64::engine::general_purpose::STANDARD.encode("me:p@ss/wörd");
        let text = scrub.clean(&format!(
            "p@ss/wörd p%40ss%2Fw%C3%B6rd Basic {basic} 'https://other:thing@host/x' https://me@host/"
        ));
        assert_eq!(
            text,
            "*** *** Basic *** 'https://***@host/x' https://me@host/"
        );
    }
}
