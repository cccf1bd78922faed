//! A Task as it changes, for as long as there is one.

use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use kube::{
    Api, Client,
    runtime::{WatchStreamExt as _, watcher},
};
use kubeopencode_api::v1alpha1::Task;

use crate::{
    failure::{Failure, Problem},
    printer::Printer,
};

/// How long a Task may be without any status before a person is told. An operator answers at once.
const UNATTENDED: Duration = Duration::from_secs(15);

/// A watch on one Task.
pub(super) struct Changes<'a> {
    name: &'a str,
    printer: &'a Printer,
    events: BoxStream<'static, watcher::Result<watcher::Event<Task>>>,
    /// Whether the Task was seen since the watch began anew.
    seen: bool,
    /// Whether the person knows that the cluster does not answer.
    told: bool,
    /// Whether somebody looks after the Task, as far as that matters any more.
    attended: bool,
}

impl<'a> Changes<'a> {
    pub(super) fn new(
        client: &Client,
        namespace: &str,
        name: &'a str,
        printer: &'a Printer,
    ) -> Self {
        let tasks: Api<Task> = Api::namespaced(client.clone(), namespace);
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        Self {
            name,
            printer,
            events: watcher(tasks, config).default_backoff().boxed(),
            seen: false,
            told: false,
            attended: false,
        }
    }

    /// The Task after its next change; an error when it is deleted.
    pub(super) async fn next(&mut self) -> Result<Task, Failure> {
        loop {
            let event = match self.event().await {
                Ok(Some(event)) => event,
                Ok(None) => return Err(Problem::new("the cluster ended the watch").failed()),
                Err(error) => {
                    if !std::mem::replace(&mut self.told, true) {
                        self.printer.warn(&format!(
                            "the cluster does not answer ({error}); trying again"
                        ));
                    }
                    continue;
                }
            };
            self.told = false;
            match event {
                watcher::Event::Apply(task) | watcher::Event::InitApply(task) => {
                    self.seen = true;
                    self.attended |= task.status.is_some();
                    return Ok(task);
                }
                watcher::Event::Init => self.seen = false,
                watcher::Event::InitDone if self.seen => {}
                watcher::Event::InitDone | watcher::Event::Delete(_) => {
                    return Err(
                        Problem::new(format!("the Task {} was deleted", self.name)).failed()
                    );
                }
            }
        }
    }

    async fn event(&mut self) -> watcher::Result<Option<watcher::Event<Task>>> {
        if self.attended {
            return self.events.try_next().await;
        }
        tokio::select! {
            event = self.events.try_next() => return event,
            () = tokio::time::sleep(UNATTENDED) => {}
        }
        self.attended = true;
        self.printer.warn(&format!(
            "nobody looks after the Task {}: is there an operator in this cluster? `kubeopencode controller` is one",
            self.name
        ));
        self.events.try_next().await
    }
}
