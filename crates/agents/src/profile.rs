//! Profiles: one agent each, as data.

use std::fmt;

use crate::{claude_code, codex, command, opencode, reader::ReadLine};

/// One agent: how it is started without a person, how it is read, how a machine gets it.
#[derive(Clone, Copy)]
pub struct Profile {
    /// Its name in manifests: `OpenCode`.
    pub name: &'static str,
    /// Its program's name, by which a command is recognised.
    pub program: &'static str,
    /// Whether the image that brings the tools brings it, too. Otherwise it is in the agent's image.
    pub in_tools: bool,
    /// The arguments with which it reads its prompt from standard input, asks nobody, and prints events.
    pub arguments: &'static [&'static str],
    /// What makes it print events: one of these, as words of its command in this order.
    pub(crate) asks_for_events: &'static [&'static [&'static str]],
    /// Variables that it needs where nobody is there to answer: no questions, no updates of itself, no fetching of
    /// catalogues, and the operator's word over files that a repository brings. Name and value. A credential of the same
    /// name comes before each.
    pub variables: &'static [(&'static str, &'static str)],
    /// Which limits can be held while it works, as they are called in manifests: it tells of steps, tokens or cost as they
    /// are used, and not only at its end.
    pub holds: &'static [&'static str],
    /// Whether a session always ends with an event that tells so, and how.
    pub tells_its_end: bool,
    /// The command that installs it on a machine.
    pub install: &'static str,
    /// Where npm's packages of it for a platform have its program, below `node_modules`: `{npm}` and `{rust}` stand for the
    /// machine's architecture in the words of each.
    pub packaged: &'static [&'static str],
    /// Makes what reads its lines.
    pub(crate) reader: fn() -> Box<dyn ReadLine>,
}

impl Profile {
    /// All of them; the first is what runs when nothing else is asked for.
    pub const ALL: [Self; 3] = [opencode::PROFILE, claude_code::PROFILE, codex::PROFILE];

    /// The agent of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        static ALL: [Profile; 3] = Profile::ALL;
        ALL.iter().find(|profile| profile.name == name)
    }

    /// The agent that runs when nothing is asked for.
    #[must_use]
    pub fn usual() -> &'static Self {
        static USUAL: Profile = opencode::PROFILE;
        &USUAL
    }

    /// Whether this command, which starts it, makes it print events, as far as its words show. Words of a prompt are none
    /// of the command.
    #[must_use]
    pub fn is_asked_for_events(&self, command: &[String]) -> bool {
        let words = command::words(command);
        self.asks_for_events
            .iter()
            .any(|asked| words.windows(asked.len()).any(|said| said == *asked))
    }

    /// The agent of which a recording is, by the name of its file: it begins with the program's name. Those of the usual
    /// one need not.
    #[must_use]
    pub fn of_recording(file: &str) -> &'static Self {
        let mut others = Self::ALL.iter();
        let found = others.find(|profile| file.starts_with(profile.program));
        let found = found.and_then(|profile| Self::named(profile.name));
        found.unwrap_or_else(Self::usual)
    }

    /// The agent that a command starts, as far as its words show: one of them, or of the words of a script among them,
    /// is the agent's program, with or without its path.
    #[must_use]
    pub fn of_command(command: &[String]) -> Option<&'static Self> {
        let words = command.iter().flat_map(|argument| {
            argument.split(|letter: char| letter.is_whitespace() || ";|&()<>'\"`".contains(letter))
        });
        let mut programs = words.map(|word| word.rsplit('/').next().unwrap_or(word));
        programs.find_map(|program| {
            let found = Self::ALL
                .iter()
                .find(|profile| profile.program == program)?;
            Self::named(found.name)
        })
    }
}

impl fmt::Debug for Profile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name)
    }
}

/// A name says which agent it is.
impl PartialEq for Profile {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Profile {}

#[cfg(test)]
mod tests {
    use super::*;

    fn guessed(command: &[&str]) -> Option<&'static str> {
        let command: Vec<String> = command.iter().map(|&word| word.to_owned()).collect();
        Profile::of_command(&command).map(|profile| profile.name)
    }

    #[test]
    fn a_command_shows_its_agent() {
        let opencode = r#"/tools/opencode run --format json "$(cat /workspace/task.md)""#;
        assert_eq!(guessed(&["sh", "-c", opencode]), Some("OpenCode"));
        assert_eq!(
            guessed(&["sh", "-c", "exec claude -p < task.md"]),
            Some("ClaudeCode")
        );
        assert_eq!(
            guessed(&["/usr/local/bin/codex", "exec", "--json", "-"]),
            Some("Codex")
        );
        assert_eq!(
            guessed(&["sh", "-c", "(codex exec --json -)|tee log"]),
            Some("Codex")
        );
    }

    #[test]
    fn another_command_shows_none() {
        assert_eq!(guessed(&[]), None);
        assert_eq!(
            guessed(&["sh", "-c", "/opt/opencode-wrapper run; ./claude.sh"]),
            None
        );
    }

    #[test]
    fn what_it_prints_can_be_read_where_its_command_asks_for_events() {
        let asked = |profile: &str, command: &[&str]| {
            let command: Vec<String> = command.iter().map(|&word| word.to_owned()).collect();
            Profile::named(profile).map(|profile| profile.is_asked_for_events(&command))
        };
        for profile in Profile::ALL {
            let script = format!(
                "exec {} {} < task.md",
                profile.program,
                profile.arguments.join(" ")
            );
            assert_eq!(asked(profile.name, &["sh", "-c", &script]), Some(true));
            let direct = [&[profile.program], profile.arguments].concat();
            assert_eq!(asked(profile.name, &direct), Some(true));
        }
        let of_000 = r#"/tools/opencode run --format json "$(cat /workspace/task.md)""#;
        assert_eq!(asked("OpenCode", &["sh", "-c", of_000]), Some(true));
        assert_eq!(
            asked("OpenCode", &["opencode", "run", "--format=json"]),
            Some(true)
        );
        let others = [
            ("OpenCode", "opencode run 'read package.json'"),
            ("OpenCode", "opencode run --format default json"),
            ("ClaudeCode", "claude -p 'fix package.json'"),
            // One object at its end.
            ("ClaudeCode", "claude -p --output-format json < task.md"),
            ("Codex", "codex exec 'add a flag --json'"),
        ];
        for (profile, script) in others {
            assert_eq!(
                asked(profile, &["sh", "-c", script]),
                Some(false),
                "{script}"
            );
        }
        assert_eq!(
            asked("Codex", &["codex", "exec", "add a flag --json"]),
            Some(false)
        );
    }

    #[test]
    fn names_are_unique() {
        for profile in Profile::ALL {
            assert_eq!(Profile::named(profile.name), Some(&profile));
        }
        assert_eq!(Profile::named("Command"), None);
    }
}
