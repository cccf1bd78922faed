//! What a command says, word by word, as far as that can be known without running it.
//!
//! An argument is one word, a script is split as a shell splits it. Nothing is expanded: what comes out of a variable, of
//! another program or of a script that is a file is not known, and no word.

/// The words of a command, with those of scripts in it (`sh -c '…'`) in place of the script.
#[must_use]
pub fn words(command: &[String]) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for argument in command {
        if words.last().is_some_and(|before| takes_script(before)) {
            words.extend(self::words(&split(argument)));
        } else {
            words.push(argument.clone());
        }
    }
    words
}

/// `-c`, also among other options as in `-euc`: a script comes next.
fn takes_script(word: &str) -> bool {
    let options = word.strip_prefix('-').unwrap_or_default();
    options.contains('c') && options.bytes().all(|option| option.is_ascii_lowercase())
}

/// The words of a script. What stands in quotes is one word, or a part of one.
fn split(script: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = script.chars();
    while let Some(character) = characters.next() {
        match character {
            '\'' => {
                let quoted = characters.by_ref().take_while(|next| *next != '\'');
                word.get_or_insert_default().extend(quoted);
            }
            '"' => {
                let word = word.get_or_insert_default();
                while let Some(next) = characters.next().filter(|next| *next != '"') {
                    word.extend(if next == '\\' {
                        characters.next()
                    } else {
                        Some(next)
                    });
                }
            }
            '\\' => word.get_or_insert_default().extend(characters.next()),
            _ if character.is_whitespace() || ";|&()<>`".contains(character) => {
                words.extend(word.take());
            }
            _ => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(command: &[&str]) -> Vec<String> {
        words(
            &command
                .iter()
                .map(|&word| word.to_owned())
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn an_argument_is_a_word() {
        assert_eq!(
            of(&["codex", "exec", "add --json"]),
            ["codex", "exec", "add --json"]
        );
    }

    #[test]
    fn a_script_is_split_as_a_shell_does_it() {
        let script = "cd a&&exec codex 'add a --json' \"b \\\" c\"d e\\ f < task.md";
        let expected = [
            "sh",
            "-euc",
            "cd",
            "a",
            "exec",
            "codex",
            "add a --json",
            "b \" cd",
            "e f",
            "task.md",
        ];
        assert_eq!(of(&["sh", "-euc", script]), expected);
        let within = of(&["sh", "-c", "timeout 5 bash -lc 'codex exec --json -'"]);
        assert_eq!(
            &within[within.len() - 4..],
            ["codex", "exec", "--json", "-"]
        );
    }

    #[test]
    fn what_is_not_closed_has_an_end() {
        assert_eq!(of(&["sh", "-c", "a 'b c"]), ["sh", "-c", "a", "b c"]);
        assert_eq!(of(&["sh", "-c", "a \"b \\"]), ["sh", "-c", "a", "b "]);
        assert_eq!(of(&["sh", "-c"]), ["sh", "-c"]);
    }
}
