//! Where what an agent prints goes: without the secrets of its Pod, rendered for people where the agent tells events, line
//! by line behind the Task's name when there are several. Or as it is.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kubeopencode_agents::{LONGEST_LINE, Profile};
use kubeopencode_api::names::container::AGENT;
use kubeopencode_engine::handover::PROFILE_VARIABLE;

use super::secrets;
use crate::{mask::Mask, printer::Printer, render::Rendering};

/// How the output of an agent is shown.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Show {
    /// The agent's bytes, as they are.
    pub(crate) raw: bool,
    /// On standard error.
    pub(crate) aside: bool,
    /// Behind the Task's name, because there are others.
    pub(crate) named: bool,
}

/// Where the output of one agent goes. Clones are the same place.
#[derive(Clone)]
pub(crate) struct Output {
    printer: Printer,
    task: String,
    show: Show,
    stages: Arc<Mutex<Stages>>,
}

/// What bytes go through, in order.
#[derive(Default)]
struct Stages {
    mask: Option<Mask>,
    rendering: Option<Rendering>,
    /// The beginning of a line whose end has not come yet; only used with a name.
    rest: Vec<u8>,
}

impl Output {
    /// For what the agent of this Task prints.
    pub(crate) fn new(printer: &Printer, task: &str, show: Show) -> Self {
        Self {
            printer: printer.clone(),
            task: task.to_owned(),
            show,
            stages: Arc::default(),
        }
    }

    /// It comes from this container: what its Pod was made with decides how it is read.
    pub(super) async fn begin(&self, client: &Client, pod: &Pod, container: &str) {
        if self.show.raw {
            return;
        }
        let known = secrets::of_pod(client, pod).await;
        for problem in &known.unknown {
            self.printer.warn(problem);
        }
        let mask = Mask::of(&known.values);
        let color = self.printer.colors(self.show.aside);
        let taken = if self.show.named {
            self.name().chars().count()
        } else {
            0
        };
        let width = self.printer.width(self.show.aside);
        let width = width.map(|width| width.saturating_sub(taken));
        let mut stages = self.stages();
        stages.mask = mask;
        stages.rendering = profile(pod)
            .filter(|_| container == AGENT)
            .map(|profile| Rendering::new(profile, color, width));
    }

    /// Passes bytes on.
    pub(crate) fn write(&self, bytes: &[u8]) {
        let mut stages = self.stages();
        let bytes = match &mut stages.mask {
            Some(mask) => mask.feed(bytes),
            None => bytes.to_vec(),
        };
        self.pass(&mut stages, &bytes);
    }

    fn pass(&self, stages: &mut Stages, bytes: &[u8]) {
        let Stages {
            mask, rendering, ..
        } = stages;
        let Some(rendering) = rendering else {
            return self.lines(stages, bytes);
        };
        let shown = hide(mask.as_ref(), rendering.feed(bytes));
        // What the agent is doing, on a terminal.
        let state = hide(mask.as_ref(), rendering.state().into_bytes());
        self.lines(stages, &shown);
        if !state.is_empty() {
            let state = String::from_utf8_lossy(&state);
            self.printer.progress(&format!("{} {state}", self.task));
        }
    }

    fn lines(&self, stages: &mut Stages, bytes: &[u8]) {
        if !self.show.named {
            return self.emit(bytes);
        }
        stages.rest.extend_from_slice(bytes);
        if stages.rest.len() > LONGEST_LINE && !bytes.contains(&b'\n') {
            // Longer than what is kept: it goes on in another line.
            stages.rest.push(b'\n');
        }
        let Some(end) = stages.rest.iter().rposition(|byte| *byte == b'\n') else {
            return;
        };
        let whole: Vec<u8> = stages.rest.drain(..=end).collect();
        let mut lines = Vec::new();
        for line in whole.split_inclusive(|byte| *byte == b'\n') {
            lines.extend_from_slice(self.name().as_bytes());
            lines.extend_from_slice(line);
        }
        self.emit(&lines);
    }

    /// Nothing more comes: shows what was held back, and ends a line that has no end.
    pub(crate) fn finish(&self) {
        let mut stages = self.stages();
        if let Some(rest) = stages.mask.as_mut().map(Mask::finish) {
            self.pass(&mut stages, &rest);
        }
        if let Some(bytes) = stages.rendering.as_mut().map(Rendering::finish) {
            let bytes = hide(stages.mask.as_ref(), bytes);
            self.lines(&mut stages, &bytes);
        }
        let rest = std::mem::take(&mut stages.rest);
        if self.show.named && !rest.is_empty() {
            self.emit(&[self.name().as_bytes(), &rest, b"\n"].concat());
        }
    }

    /// What all of it came to, where the agent told that.
    pub(crate) fn total(&self) -> Option<String> {
        self.stages().rendering.as_ref()?.total()
    }

    fn name(&self) -> String {
        format!("[{}] ", self.task)
    }

    fn stages(&self) -> MutexGuard<'_, Stages> {
        self.stages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn emit(&self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if self.show.aside {
            self.printer.aside(bytes);
        } else {
            self.printer.data(bytes);
        }
    }
}

/// What was rendered, once more: with its escapes undone a line may show what its bytes did not.
fn hide(mask: Option<&Mask>, shown: Vec<u8>) -> Vec<u8> {
    match mask {
        Some(mask) => mask.hide(&shown),
        None => shown,
    }
}

/// The agent whose events `supervise` reads in this Pod: the Agent may have been changed since.
fn profile(pod: &Pod) -> Option<&'static Profile> {
    let containers = &pod.spec.as_ref()?.containers;
    let agent = containers
        .iter()
        .find(|container| container.name == AGENT)?;
    let variables = agent.env.iter().flatten();
    let mut named = variables.filter(|variable| variable.name == PROFILE_VARIABLE);
    Profile::named(named.next()?.value.as_deref()?)
}
