//! Label and field selectors.

use serde_json::Value;

use crate::kinds::names;
use crate::status::Failure;

/// One requirement on a label.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Missing(String),
    Greater(String, i64),
    Less(String, i64),
}

/// A label selector; all of its requirements must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
}

impl LabelSelector {
    /// Reads the text of `labelSelector`.
    ///
    /// # Errors
    /// 400 with the place where it stops making sense.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let mut parser = Parser::new(text);
        let requirements = parser.selector().map_err(Failure::bad_request)?;
        Ok(Self { requirements })
    }

    /// Whether it selects everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Whether an object's labels fulfil it.
    #[must_use]
    pub fn matches(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.requirements
            .iter()
            .all(|requirement| match requirement {
                Requirement::In(key, values) => labels[key]
                    .as_str()
                    .is_some_and(|label| values.iter().any(|value| value == label)),
                Requirement::NotIn(key, values) => !labels[key]
                    .as_str()
                    .is_some_and(|label| values.iter().any(|value| value == label)),
                Requirement::Exists(key) => labels[key].is_string(),
                Requirement::Missing(key) => !labels[key].is_string(),
                Requirement::Greater(key, bound) => {
                    number(&labels[key]).is_some_and(|n| n > *bound)
                }
                Requirement::Less(key, bound) => number(&labels[key]).is_some_and(|n| n < *bound),
            })
    }
}

fn number(label: &Value) -> Option<i64> {
    label.as_str()?.parse().ok()
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Symbol(&'static str),
    End,
}

impl Token {
    fn text(&self) -> &str {
        match self {
            Self::Word(word) => word,
            Self::Symbol(symbol) => symbol,
            Self::End => "",
        }
    }

    fn is(&self, symbol: &str) -> bool {
        matches!(self, Self::Symbol(own) if *own == symbol)
    }
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

const SYMBOLS: [&str; 9] = ["==", "!=", "=", "!", ",", "(", ")", "<", ">"];

impl Parser {
    fn new(text: &str) -> Self {
        let mut tokens = Vec::new();
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            if let Some(symbol) = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
                tokens.push(Token::Symbol(symbol));
                rest = rest[symbol.len()..].trim_start();
                continue;
            }
            let end = rest
                .find(|c: char| c.is_whitespace() || "=!,()<>".contains(c))
                .unwrap_or(rest.len());
            tokens.push(Token::Word(rest[..end].to_owned()));
            rest = rest[end..].trim_start();
        }
        Self { tokens, at: 0 }
    }

    fn peek(&self) -> Token {
        self.tokens.get(self.at).cloned().unwrap_or(Token::End)
    }

    fn next(&mut self) -> Token {
        let token = self.peek();
        self.at += 1;
        token
    }

    fn selector(&mut self) -> Result<Vec<Requirement>, String> {
        let mut requirements = Vec::new();
        loop {
            match self.peek() {
                Token::End => return Ok(requirements),
                token if matches!(token, Token::Word(_)) || token.is("!") => {
                    let requirement = self
                        .requirement()
                        .map_err(|why| format!("unable to parse requirement: {why}"))?;
                    requirements.push(requirement);
                    let after = self.next();
                    if after == Token::End {
                        return Ok(requirements);
                    }
                    if !after.is(",") {
                        return Err(format!(
                            "found '{}', expected: ',' or 'end of string'",
                            after.text()
                        ));
                    }
                    let next = self.peek();
                    if !matches!(next, Token::Word(_)) && !next.is("!") {
                        return Err(format!(
                            "found '{}', expected: identifier after ','",
                            next.text()
                        ));
                    }
                }
                token => {
                    return Err(format!(
                        "found '{}', expected: !, identifier, or 'end of string'",
                        token.text()
                    ));
                }
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let negated = self.peek().is("!");
        if negated {
            self.next();
        }
        let key = match self.next() {
            Token::Word(word) => word,
            other => return Err(format!("found '{}', expected: identifier", other.text())),
        };
        let faults = names::qualified_name(&key);
        if !faults.is_empty() {
            let why = faults.join("; ");
            return Err(format!("<nil>: Invalid value: \"{key}\": {why}"));
        }
        if negated {
            return Ok(Requirement::Missing(key));
        }
        if self.peek() == Token::End || self.peek().is(",") {
            return Ok(Requirement::Exists(key));
        }
        let operator = self.next();
        let values = match operator.text() {
            "in" | "notin" => self.values()?,
            "=" | "==" | "!=" | ">" | "<" => vec![self.value()?],
            other => {
                return Err(format!(
                    "found '{other}', expected: in, notin, =, ==, !=, gt, lt"
                ));
            }
        };
        let bound = match operator.text() {
            ">" | "<" => bound(&values[0])?,
            _ => 0,
        };
        check_values(&key, &values)?;
        Ok(match operator.text() {
            "in" | "=" | "==" => Requirement::In(key, values),
            ">" => Requirement::Greater(key, bound),
            "<" => Requirement::Less(key, bound),
            _ => Requirement::NotIn(key, values),
        })
    }

    fn value(&mut self) -> Result<String, String> {
        if self.peek() == Token::End || self.peek().is(",") {
            return Ok(String::new());
        }
        match self.next() {
            Token::Word(word) => Ok(word),
            other => Err(format!("found '{}', expected: identifier", other.text())),
        }
    }

    fn values(&mut self) -> Result<Vec<String>, String> {
        let open = self.next();
        if !open.is("(") {
            return Err(format!("found '{}' expected: '('", open.text()));
        }
        let mut values = Vec::new();
        loop {
            match self.next() {
                Token::Word(word) => values.push(word),
                token if token.is(",") => values.push(String::new()),
                token if token.is(")") => return Ok(values),
                token => {
                    return Err(format!(
                        "found '{}', expected: ',', ')' or identifier",
                        token.text()
                    ));
                }
            }
            match self.peek() {
                token if token.is(",") => {
                    self.next();
                }
                token if token.is(")") => {}
                token => return Err(format!("found '{}', expected: ',' or ')'", token.text())),
            }
        }
    }
}

fn bound(value: &str) -> Result<i64, String> {
    value
        .parse()
        .map_err(|_| format!("values[0]: Invalid value: \"{value}\": for 'Gt', 'Lt' operators, the value must be an integer"))
}

fn check_values(key: &str, values: &[String]) -> Result<(), String> {
    let mut sorted: Vec<&String> = values.iter().collect();
    sorted.sort();
    for (index, value) in sorted.into_iter().enumerate() {
        let faults = names::label_value(value);
        if !faults.is_empty() {
            let why = faults.join("; ");
            return Err(format!(
                "values[{index}][{key}]: Invalid value: \"{value}\": {why}"
            ));
        }
    }
    Ok(())
}

/// One term of a field selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldTerm {
    /// Path as given, such as `metadata.name`.
    pub field: String,
    /// The value to compare with.
    pub value: String,
    /// Whether it must be that value, or must not.
    pub equal: bool,
}

/// Reads the text of `fieldSelector`; which fields exist is the kind's business.
///
/// # Errors
/// 400 for a term without an operator.
pub fn field_terms(text: &str) -> Result<Vec<FieldTerm>, Failure> {
    let mut terms = Vec::new();
    for term in split_terms(text) {
        if term.is_empty() {
            continue;
        }
        let operator = ["!=", "==", "="]
            .into_iter()
            .filter_map(|operator| term.find(operator).map(|at| (at, operator)))
            .min_by_key(|(at, operator)| (*at, std::cmp::Reverse(operator.len())));
        let Some((at, operator)) = operator else {
            return Err(Failure::bad_request(format!(
                "invalid selector: '{text}'; can't understand '{term}'"
            )));
        };
        terms.push(FieldTerm {
            field: term[..at].to_owned(),
            value: term[at + operator.len()..].replace('\\', ""),
            equal: operator != "!=",
        });
    }
    Ok(terms)
}

/// Splits at commas that no backslash escapes.
fn split_terms(text: &str) -> Vec<String> {
    let mut terms = vec![String::new()];
    let mut escaped = false;
    for c in text.chars() {
        if c == ',' && !escaped {
            terms.push(String::new());
        } else if let Some(term) = terms.last_mut() {
            term.push(c);
        }
        escaped = c == '\\' && !escaped;
    }
    terms
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn selects(selector: &str, labels: &Value) -> bool {
        LabelSelector::parse(selector)
            .unwrap()
            .matches(&json!({"metadata": {"labels": labels}}))
    }

    #[test]
    fn every_operator() {
        let labels = json!({"app": "one", "n": "5"});
        for yes in [
            "app",
            "app=one",
            "app==one,n",
            "app in (one, two)",
            "app notin (x)",
            "!other",
            "other!=x",
            "n>4",
            "n<6",
            "",
        ] {
            assert!(selects(yes, &labels), "{yes}");
        }
        for no in [
            "!app",
            "app=",
            "app in ()",
            "other",
            "app!=one",
            "n>5",
            "app notin (one)",
            "x>1",
        ] {
            assert!(!selects(no, &labels), "{no}");
        }
    }

    #[test]
    fn field_terms_take_escapes_and_both_operators() {
        let terms = field_terms("metadata.name!=a\\,b,x==1").unwrap();
        assert_eq!(terms[0].value, "a,b");
        assert!(!terms[0].equal);
        assert_eq!(
            (terms[1].field.as_str(), terms[1].value.as_str()),
            ("x", "1")
        );
    }
}
