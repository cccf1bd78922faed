//! `credentials-init`: makes files of Secrets the agent's own.
//!
//! In: the [`CredentialsPlan`] in the context directory, and directories that the kubelet filled from Secrets. Out: copies
//! with exactly the permission bits of the plan, in a volume in memory. It runs in the agent's image, after
//! `context-init`: so the files belong to the user that the agent is, whoever that is. It prints names, never contents.

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use kubeopencode_engine::handover::{
    CONTEXT_DIR, CREDENTIALS_PLAN, CredentialsPlan, PlannedCredential,
};

use crate::{
    context_init::{ContextError, read_plan},
    may_pass, say,
};

/// Why the files are not all there.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The plan is missing or cannot be read.
    #[error(transparent)]
    Plan(#[from] ContextError),
    /// A file of a Secret cannot be copied.
    #[error("{path}: cannot copy the Secret's {name}: {source}")]
    Copy {
        /// The credential, as the agent would see it.
        path: String,
        /// Name of the file.
        name: String,
        /// Why.
        source: io::Error,
    },
}

/// The program: [`credentials_init`] with its error on standard error and in the exit code.
pub(crate) fn main(context_dir: Option<PathBuf>) -> u8 {
    match credentials_init(&context_dir.unwrap_or_else(|| CONTEXT_DIR.into())) {
        Ok(()) => 0,
        Err(error) => {
            say::line(&format!("credentials-init: {error}"));
            may_pass::exit_code(&error)
        }
    }
}

/// Copies every Secret of the plan.
pub fn credentials_init(context_dir: &Path) -> Result<(), CredentialsError> {
    let plan = read_plan::<CredentialsPlan>(&context_dir.join(CREDENTIALS_PLAN))?;
    for credential in plan.map(|plan| plan.credentials).unwrap_or_default() {
        copy(&credential)?;
    }
    Ok(())
}

fn copy(credential: &PlannedCredential) -> Result<(), CredentialsError> {
    let failed = |name: &str| {
        let (path, name) = (credential.path.clone(), name.to_owned());
        move |source| CredentialsError::Copy { path, name, source }
    };
    let target = Path::new(&credential.target);
    // Started again (a node that lost the Pod's sandbox does that) it begins anew.
    if target.exists() {
        fs::remove_dir_all(target).map_err(failed("directory"))?;
    }
    fs::create_dir(target).map_err(failed("directory"))?;
    let entries = fs::read_dir(&credential.source).map_err(failed("directory"))?;
    for entry in entries {
        let name = entry.map_err(failed("directory"))?.file_name();
        // The kubelet's own: the files are links through them.
        if name.as_encoded_bytes().starts_with(b"..") {
            continue;
        }
        let shown = name.to_string_lossy();
        let content =
            fs::read(Path::new(&credential.source).join(&name)).map_err(failed(&shown))?;
        write(&target.join(&name), &content, credential.mode).map_err(failed(&shown))?;
    }
    Ok(())
}

/// Never readable by more than it will be: it is made for its owner alone.
fn write(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(content)?;
    file.set_permissions(fs::Permissions::from_mode(mode & 0o777))
}
