//! Taking secrets out of whatever git prints and an agent tells, before anybody sees it.

use std::{
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use base64::Engine as _;
use kubeopencode_agents::Profile;
use kubeopencode_engine::handover::{
    DEFAULTS_VARIABLE, GRACE_VARIABLE, LIMITS_VARIABLE, PROFILE_VARIABLE, PROGRAM_EVERYWHERE,
    PUSH_VARIABLE, REPORT_BYTES_VARIABLE, SECRETS_VARIABLE, Secrets, TIMEOUT_VARIABLE,
};

use crate::secret::{self, HIDDEN, forms};

/// Passwords for git that are shorter are in the middle of every word; what remains of them says nothing. What an agent
/// knows may be anything, so it has to be longer: [`secret::SHORTEST`].
const SHORTEST_PASSWORD: usize = 3;
/// A file that is longer has more in it than secrets.
const LONGEST_FILE: u64 = 1 << 20;

/// Variables that are no secrets where all of a Secret become variables, and nobody says which: ours are among them. So are
/// those of the cluster's own service, by the beginnings of their names, and those whose values are paths that are there,
/// as images have many.
const PUBLIC: [&str; 27] = [
    "DEBIAN_FRONTEND",
    "EDITOR",
    "HOME",
    "HOSTNAME",
    "LANG",
    "LANGUAGE",
    "LOGNAME",
    "PATH",
    "PWD",
    "SHELL",
    "TASK_NAME",
    "TASK_NAMESPACE",
    "TERM",
    "TZ",
    "USER",
    "WORKSPACE_DIR",
    "XDG_RUNTIME_DIR",
    "container",
    DEFAULTS_VARIABLE,
    GRACE_VARIABLE,
    LIMITS_VARIABLE,
    PROFILE_VARIABLE,
    PROGRAM_EVERYWHERE,
    PUSH_VARIABLE,
    REPORT_BYTES_VARIABLE,
    SECRETS_VARIABLE,
    TIMEOUT_VARIABLE,
];
const PUBLIC_BEGINNINGS: [&str; 3] = ["KUBERNETES_SERVICE_", "KUBERNETES_PORT", "LC_"];

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
            if form.len() >= SHORTEST_PASSWORD && !self.0.contains(&form) {
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
            if named || (secrets.all_variables && !is_public(&name, &value)) {
                scrub.hide_value(value.as_bytes());
            }
        }
        for path in &secrets.files {
            scrub.hide_file(Path::new(path));
        }
        // One may be the beginning of another.
        let key = |secret: &String| (std::cmp::Reverse(secret.len()), secret.clone());
        scrub.0.sort_by_cached_key(key);
        scrub.0.dedup();
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
            self.hide_value(&bytes);
        }
    }

    /// Texts are cleaned here, so forms that are none do not matter.
    fn hide_value(&mut self, value: &[u8]) {
        let texts = forms(value).into_iter().map(String::from_utf8);
        self.0.extend(texts.flatten());
    }

    /// The text without them.
    pub fn clean(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.0 {
            if text.contains(secret) {
                text = text.replace(secret, HIDDEN);
            }
        }
        if let Some(cut) = text.strip_suffix('…') {
            text = format!("{}…", self.without_half(cut));
        }
        without_userinfo(&text)
    }

    /// A text that was cut may end in the beginning of one, and nobody will know that half any more.
    fn without_half(&self, text: &str) -> String {
        let half = |secret: &String| {
            let halves = (secret::SHORTEST..secret.len()).rev();
            halves
                .filter_map(|length| secret.get(..length))
                .find(|half| text.ends_with(half))
                .map(str::len)
        };
        match self.0.iter().filter_map(half).max() {
            Some(length) => format!("{}{HIDDEN}", &text[..text.len() - length]),
            None => text.to_owned(),
        }
    }
}

/// One that is named in `Secrets` is a secret whatever this says.
fn is_public(name: &str, value: &OsStr) -> bool {
    let is_there = |path: PathBuf| path.is_absolute() && path.exists();
    PUBLIC.contains(&name)
        || PUBLIC_BEGINNINGS.iter().any(|it| name.starts_with(it))
        || Profile::ALL.iter().any(|profile| {
            let known = (name, value.to_str().unwrap_or_default());
            profile.variables.contains(&known)
        })
        || std::env::split_paths(value).all(is_there)
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
    fn a_key_of_a_whole_secret_may_be_named_almost_as_ours() {
        let is_public = |name| super::is_public(name, OsStr::new("hush-hush-hush"));
        let public = [
            "KUBERNETES_SERVICE_HOST",
            "KUBERNETES_PORT_443_TCP_ADDR",
            "KUBEOPENCODE_PROFILE",
            "HOME",
        ];
        assert!(public.into_iter().all(is_public));
        for secret in [
            "KUBE_TOKEN",
            "KUBECONFIG",
            "HOME_KEY",
            "KUBERNETES_TOKEN",
            "KUBEOPENCODE_API_KEY",
        ] {
            assert!(!is_public(secret), "{secret}");
        }
    }

    #[test]
    fn what_an_image_says_of_its_directories_is_no_secret() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().display();
        let is_public = |value: String| is_public("JAVA_HOME", OsStr::new(&value));
        assert!(is_public(path.to_string()));
        assert!(is_public(format!("{path}:/")));
        for secret in [
            format!("{path}/hush"),
            format!("{path}:hush"),
            "hush".to_owned(),
        ] {
            assert!(!is_public(secret.clone()), "{secret}");
        }
        let known = Profile::usual().variables[0];
        assert!(super::is_public(known.0, OsStr::new(known.1)));
        assert!(!super::is_public(known.0, OsStr::new("hush")));
    }

    #[test]
    fn half_a_secret_at_the_end_of_a_text_that_was_cut_is_hidden() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("key");
        fs::write(&file, "hush-hush-hush-hush").expect("a file");
        let scrub = Scrub::of_agent(&Secrets {
            files: vec![file.display().to_string()],
            ..Secrets::default()
        });
        assert_eq!(scrub.clean("it is hush-hush-hus…"), "it is ***…");
        assert_eq!(scrub.clean("it is hush…"), "it is hush…");
        assert_eq!(scrub.clean("hush-hush-hus"), "hush-hush-hus");
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
