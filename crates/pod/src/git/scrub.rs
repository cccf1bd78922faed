//! Taking secrets out of whatever git prints, before anybody sees it.

use base64::Engine as _;

const HIDDEN: &str = "***";
/// Shorter ones are words of every sentence; what remains of them says nothing.
const SHORTEST: usize = 3;

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
