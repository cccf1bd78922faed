//! `rbac`: the rights that the operator needs, as roles; each rule has its reason before it.
//!
//! Whoever writes roles by hand or in a chart can check them against these.

use std::fmt::Write as _;

use k8s_openapi::api::rbac::v1::PolicyRule;
use kubeopencode_api::names;
use kubeopencode_operator::access::{ACCESS, Access, CONFIGURATION, LEASE};
use serde_json::json;

use crate::{
    cli::RbacArgs,
    failure::{Failure, Problem},
    printer::Printer,
};

/// Name of the roles.
const NAME: &str = "kubeopencode-controller";

/// Prints them.
pub(crate) fn rbac(arguments: &RbacArgs, printer: &Printer) -> Result<(), Failure> {
    let RbacArgs {
        namespace,
        system_namespace,
        lease_name,
    } = arguments;
    let anything = ACCESS.iter().map(|access| (access, access.rule()));
    let lease = LEASE
        .iter()
        .map(|access| (access, access.rule_for(lease_name)));
    let (work, mut own) = match namespace {
        None => (head("ClusterRole", NAME, None), Vec::new()),
        Some(namespace) => (head("Role", NAME, Some(namespace)), {
            let elsewhere = namespace != system_namespace;
            let settings = CONFIGURATION.iter().filter(|_| elsewhere);
            settings
                .map(|access| (access, access.rule_for(names::DEFAULT)))
                .collect()
        }),
    };
    own.extend(lease);
    let work = work + &rules(anything)?;
    let own = head("Role", &format!("{NAME}-own"), Some(system_namespace)) + &rules(own)?;
    printer.text(&format!("{work}---\n{own}"));
    Ok(())
}

fn head(kind: &str, name: &str, namespace: Option<&str>) -> String {
    let mut text = format!(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: {kind}\nmetadata:\n  name: {name}\n"
    );
    if let Some(namespace) = namespace {
        // A string of JSON is one of YAML, whatever is in it.
        let _ = writeln!(text, "  namespace: {}", json!(namespace));
    }
    text.push_str("rules:\n");
    text
}

/// The rules, each below a comment that says what it is for.
fn rules<'a>(rules: impl IntoIterator<Item = (&'a Access, PolicyRule)>) -> Result<String, Failure> {
    let mut text = String::new();
    for (access, rule) in rules {
        let rule = serde_saphyr::to_string(&[rule])
            .map_err(|error| Problem::new(format!("a rule cannot be written: {error}")).failed())?;
        let _ = writeln!(text, "  # {}", access.why);
        for line in rule.lines() {
            let _ = writeln!(text, "  {line}");
        }
    }
    Ok(text)
}
