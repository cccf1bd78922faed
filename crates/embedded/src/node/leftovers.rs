//! Removing what a Pod leaves on disk.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::logs::LogStore;

/// Removes the work directory and the logs of a Pod that is no more.
pub(super) async fn remove(directory: PathBuf, logs: LogStore, uid: String) {
    let removed = tokio::task::spawn_blocking(move || {
        remove_tree(&directory)?;
        logs.remove(&uid)
    })
    .await;
    match removed {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "cannot remove what a Pod left"),
        Err(error) => tracing::warn!(%error, "removing what a Pod left"),
    }
}

/// Removes a directory with all that is in it; programs may have made directories that even their
/// owner cannot enter or change.
fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(path)?;
            fs::remove_dir_all(path)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Gives the owner all rights on a directory and those below it. Follows no symbolic link.
fn open_up(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes the directories and logs of all Pods but these.
pub(super) async fn sweep(pods: &Path, logs: &LogStore, keep: &HashSet<String>) {
    let directories = fs::read_dir(pods).into_iter().flatten();
    let mut uids: Vec<String> = directories
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .chain(logs.pod_uids().unwrap_or_default())
        .filter(|uid| !keep.contains(uid))
        .collect();
    uids.sort();
    uids.dedup();
    for uid in uids {
        remove(pods.join(&uid), logs.clone(), uid).await;
    }
}
