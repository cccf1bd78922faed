//! The row of a Pod.

use serde_json::{Value, json};

use super::age;

/// Ready, status, restarts, age, IP, node, nominated node, readiness gates.
pub(super) fn cells(pod: &Value, now: i64) -> Vec<Value> {
    let summary = summary(pod, now);
    let or_none = |text: &Value| match text.as_str() {
        Some(text) if !text.is_empty() => Value::from(text),
        _ => "<none>".into(),
    };
    vec![
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.status.into(),
        summary.restarts.into(),
        age::since(&pod["metadata"]["creationTimestamp"], now).into(),
        or_none(&pod["status"]["podIP"]),
        or_none(&pod["spec"]["nodeName"]),
        or_none(&pod["status"]["nominatedNodeName"]),
        gates(pod),
    ]
}

/// The condition of a row whose Pod has ended.
pub(super) fn completed(pod: &Value) -> Option<Value> {
    let (reason, message) = match pod["status"]["phase"].as_str()? {
        "Succeeded" => ("Succeeded", "The pod has completed successfully."),
        "Failed" => ("Failed", "The pod failed."),
        _ => return None,
    };
    Some(json!({"type": "Completed", "status": "True", "reason": reason, "message": message}))
}

struct Summary {
    ready: usize,
    total: usize,
    status: String,
    restarts: String,
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn summary(pod: &Value, now: i64) -> Summary {
    let status = &pod["status"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let phase = text(&status["phase"]);
    let mut shown = if text(&status["reason"]).is_empty() {
        phase.clone()
    } else {
        text(&status["reason"])
    };
    let sidecars: Vec<&str> = list(&pod["spec"], "initContainers")
        .iter()
        .filter(|c| c["restartPolicy"] == "Always")
        .filter_map(|c| c["name"].as_str())
        .collect();
    let mut ready = 0;
    let mut restarts = Restarts::default();
    let mut initializing = false;
    let inits = list(status, "initContainerStatuses");
    for (i, container) in inits.iter().enumerate() {
        restarts.add(container);
        let sidecar = container["name"]
            .as_str()
            .is_some_and(|name| sidecars.contains(&name));
        if sidecar && container["ready"] == true {
            ready += 1;
        }
        let terminated = &container["state"]["terminated"];
        if terminated["exitCode"] == 0 || (sidecar && container["started"] == true) {
            continue;
        }
        shown = if terminated.is_object() {
            format!("Init:{}", end(terminated))
        } else {
            match container["state"]["waiting"]["reason"].as_str() {
                Some(reason) if !reason.is_empty() && reason != "PodInitializing" => {
                    format!("Init:{reason}")
                }
                _ => format!("Init:{i}/{}", list(&pod["spec"], "initContainers").len()),
            }
        };
        initializing = true;
        break;
    }
    if !initializing || condition(pod, "Initialized") {
        if !initializing {
            restarts.total = 0;
            restarts.last = None;
        }
        let mut running = false;
        for container in list(status, "containerStatuses").iter().rev() {
            restarts.add(container);
            let state = &container["state"];
            let waiting = text(&state["waiting"]["reason"]);
            if !waiting.is_empty() {
                shown = waiting;
            } else if state["terminated"].is_object() {
                shown = end(&state["terminated"]);
            } else if container["ready"] == true && state["running"].is_object() {
                running = true;
                ready += 1;
            }
        }
        if shown == "Completed" && running {
            let word = if condition(pod, "Ready") {
                "Running"
            } else {
                "NotReady"
            };
            word.clone_into(&mut shown);
        }
    }
    if pod["metadata"]["deletionTimestamp"].is_string() {
        if status["reason"] == "NodeLost" {
            "Unknown".clone_into(&mut shown);
        } else if !matches!(phase.as_str(), "Succeeded" | "Failed") {
            "Terminating".clone_into(&mut shown);
        }
    }
    Summary {
        ready,
        total: list(&pod["spec"], "containers").len() + sidecars.len(),
        status: shown,
        restarts: restarts.shown(now),
    }
}

/// Why a container ended.
fn end(terminated: &Value) -> String {
    match terminated["reason"].as_str() {
        Some(reason) if !reason.is_empty() => reason.to_owned(),
        _ => match terminated["signal"].as_i64() {
            Some(signal) if signal != 0 => format!("Signal:{signal}"),
            _ => format!(
                "ExitCode:{}",
                terminated["exitCode"].as_i64().unwrap_or_default()
            ),
        },
    }
}

fn condition(pod: &Value, kind: &str) -> bool {
    list(&pod["status"], "conditions")
        .iter()
        .any(|c| c["type"] == kind && c["status"] == "True")
}

#[derive(Default)]
struct Restarts {
    total: i64,
    last: Option<i64>,
}

impl Restarts {
    fn add(&mut self, container: &Value) {
        self.total += container["restartCount"].as_i64().unwrap_or_default();
        let finished = age::seconds(&container["lastState"]["terminated"]["finishedAt"]);
        self.last = self.last.max(finished);
    }

    fn shown(&self, now: i64) -> String {
        match self.last {
            Some(last) if self.total > 0 => {
                format!("{} ({} ago)", self.total, age::duration(now - last))
            }
            _ => self.total.to_string(),
        }
    }
}

fn gates(pod: &Value) -> Value {
    let gates = list(&pod["spec"], "readinessGates");
    if gates.is_empty() {
        return "<none>".into();
    }
    let met = gates.iter().filter(|gate| {
        let kind = gate["conditionType"].as_str().unwrap_or_default();
        condition(pod, kind)
    });
    format!("{}/{}", met.count(), gates.len()).into()
}
