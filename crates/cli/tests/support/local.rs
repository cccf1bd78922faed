//! A `kubeopencode local` for tests: the real binary, in a data folder of its own, ended with its value.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

/// A running local cluster.
pub struct Local {
    child: Child,
    kubeconfig: PathBuf,
}

impl Local {
    /// Starts it and returns when it serves: it prints how to use it, as its first line, once it does. What it says of
    /// itself goes to the file `local.log` of the data folder.
    pub fn start(data: &Path) -> Result<Self> {
        Self::start_with(data, &[])
    }

    /// The same, with these variables.
    pub fn start_with(data: &Path, variables: &[(&str, &str)]) -> Result<Self> {
        let log = data.join("local.log");
        std::fs::create_dir_all(data)?;
        let mut child = Command::new(env!("CARGO_BIN_EXE_kubeopencode"))
            .args(["local", "-vv"])
            .env("XDG_DATA_HOME", data)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log)?)
            .spawn()?;
        let stdout = child.stdout.take().context("stdout is a pipe")?;
        let local = Self {
            child,
            kubeconfig: data.join("kubeopencode/kubeconfig"),
        };
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        ensure!(
            line.contains("KUBECONFIG="),
            "kubeopencode local did not start: {line}{said}"
        );
        Ok(local)
    }

    /// The kubeconfig that it wrote.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        // SIGKILL: its node ends with it, and the Pods with the node. Nothing may depend on a graceful end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
