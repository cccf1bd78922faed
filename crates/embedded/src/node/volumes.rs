//! The volumes of a Pod on disk, and the mounts of its containers.
//!
//! Every volume of the Pod itself is a directory below its work directory, which only the node's
//! user can enter. A volume of the host is never written to by the node.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::{
    Container, DownwardAPIVolumeFile, KeyToPath, Pod, Volume, VolumeProjection,
};

use super::downward;
use super::expand::expand;
use super::references::{Fetched, Kind, Reference, Unresolved};
use super::sandbox::{Mount, Source};

/// What files get when neither the item nor the volume names a mode.
const DEFAULT_MODE: i32 = 0o644;

/// Where volumes lie, and what the node adds to them.
#[derive(Clone, Debug)]
pub(super) struct Place<'a> {
    /// The Pod's work directory.
    pub(super) directory: &'a Path,
}

impl Place<'_> {
    fn volume(&self, name: &str) -> PathBuf {
        self.directory.join("volumes").join(name)
    }
}

/// The objects that the volumes of a Pod need.
pub(super) fn references(pod: &Pod) -> Vec<Reference> {
    let mut found = Vec::new();
    let mut add = |kind, name: Option<&str>| {
        found.extend(name.map(|name| Reference {
            kind,
            name: name.to_owned(),
        }));
    };
    for volume in volumes(pod) {
        if let Some(map) = &volume.config_map {
            add(Kind::ConfigMap, Some(&map.name));
        }
        if let Some(secret) = &volume.secret {
            add(Kind::Secret, secret.secret_name.as_deref());
        }
        for source in projections(volume) {
            if let Some(map) = &source.config_map {
                add(Kind::ConfigMap, Some(&map.name));
            }
            if let Some(secret) = &source.secret {
                add(Kind::Secret, Some(&secret.name));
            }
            if source.service_account_token.is_some() {
                add(Kind::ServiceAccountToken, Some(account(pod)));
            }
        }
    }
    found
}

/// The Pod's service account.
fn account(pod: &Pod) -> &str {
    let spec = pod.spec.as_ref();
    spec.and_then(|spec| spec.service_account_name.as_deref())
        .unwrap_or("default")
}

fn volumes(pod: &Pod) -> impl Iterator<Item = &Volume> {
    pod.spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten())
}

fn projections(volume: &Volume) -> impl Iterator<Item = &VolumeProjection> {
    volume
        .projected
        .iter()
        .flat_map(|projected| projected.sources.iter().flatten())
}

/// A file of a volume: path below it, content, mode.
type File = (String, Vec<u8>, i32);

/// Makes the volumes of a Pod. Made again, they are replaced, but an `emptyDir` keeps its files.
pub(super) fn make(pod: &Pod, place: &Place<'_>, fetched: &Fetched) -> Result<(), Unresolved> {
    for volume in volumes(pod) {
        let name = &volume.name;
        let failed = |error: io::Error| Unresolved::Invalid(format!("volume {name:?}: {error}"));
        let path = place.volume(name);
        if volume.empty_dir.is_some() {
            private_directory(&path).map_err(failed)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).map_err(failed)?;
        } else if volume.host_path.is_none() {
            let files = files(pod, volume, fetched)?;
            private_directory(&path).map_err(failed)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(failed)?;
            for file in &files {
                write(&path, file).map_err(|error| {
                    Unresolved::Invalid(format!("volume {name:?}: {}: {error}", file.0))
                })?;
            }
        }
    }
    Ok(())
}

fn private_directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

/// Writes a file of a volume with its mode.
fn write(volume: &Path, (path, content, mode): &File) -> io::Result<()> {
    let inside = Path::new(path)
        .components()
        .all(|component| matches!(component, Component::Normal(_)));
    if !inside || path.is_empty() {
        return Err(io::Error::other(
            "the path must be relative and must not contain '..'",
        ));
    }
    let target = volume.join(path);
    if let Some(parent) = target.parent() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(parent)?;
    }
    match fs::remove_file(&target) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&target)?;
    file.write_all(content)?;
    file.set_permissions(fs::Permissions::from_mode(mode.unsigned_abs() & 0o777))
}

/// The files of a volume that is made of other objects.
fn files(pod: &Pod, volume: &Volume, fetched: &Fetched) -> Result<Vec<File>, Unresolved> {
    let mut all = Vec::new();
    if let Some(map) = &volume.config_map {
        let mode = map.default_mode.unwrap_or(DEFAULT_MODE);
        let object = (Kind::ConfigMap, map.name.as_str(), map.optional);
        pick(fetched, object, map.items.as_deref(), mode, &mut all)?;
    } else if let Some(secret) = &volume.secret {
        let name = secret.secret_name.as_deref().unwrap_or_default();
        let mode = secret.default_mode.unwrap_or(DEFAULT_MODE);
        let object = (Kind::Secret, name, secret.optional);
        pick(fetched, object, secret.items.as_deref(), mode, &mut all)?;
    } else if let Some(downward) = &volume.downward_api {
        let mode = downward.default_mode.unwrap_or(DEFAULT_MODE);
        fields(pod, downward.items.iter().flatten(), mode, &mut all)?;
    } else if let Some(projected) = &volume.projected {
        let mode = projected.default_mode.unwrap_or(DEFAULT_MODE);
        for source in projections(volume) {
            project(pod, source, mode, fetched, &mut all)?;
        }
    }
    Ok(all)
}

fn project(
    pod: &Pod,
    source: &VolumeProjection,
    mode: i32,
    fetched: &Fetched,
    all: &mut Vec<File>,
) -> Result<(), Unresolved> {
    if let Some(map) = &source.config_map {
        let object = (Kind::ConfigMap, map.name.as_str(), map.optional);
        pick(fetched, object, map.items.as_deref(), mode, all)?;
    }
    if let Some(secret) = &source.secret {
        let object = (Kind::Secret, secret.name.as_str(), secret.optional);
        pick(fetched, object, secret.items.as_deref(), mode, all)?;
    }
    if let Some(downward) = &source.downward_api {
        fields(pod, downward.items.iter().flatten(), mode, all)?;
    }
    if let Some(token) = &source.service_account_token {
        let found = fetched.content(Kind::ServiceAccountToken, account(pod), None)?;
        let content = found.and_then(|content| content.data.get("token"));
        all.push((
            token.path.clone(),
            content.cloned().unwrap_or_default(),
            mode,
        ));
    }
    Ok(())
}

/// The items of a ConfigMap or Secret, or all keys.
fn pick(
    fetched: &Fetched,
    (kind, name, optional): (Kind, &str, Option<bool>),
    items: Option<&[KeyToPath]>,
    mode: i32,
    all: &mut Vec<File>,
) -> Result<(), Unresolved> {
    let Some(content) = fetched.content(kind, name, optional)? else {
        return Ok(());
    };
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        let keys = content.data.iter();
        all.extend(keys.map(|(key, value)| (key.clone(), value.clone(), mode)));
        return Ok(());
    };
    for item in items {
        match content.data.get(&item.key) {
            Some(value) => {
                all.push((item.path.clone(), value.clone(), item.mode.unwrap_or(mode)));
            }
            None if optional == Some(true) => {}
            None => {
                let word = match kind {
                    Kind::ConfigMap => "configmap",
                    Kind::Secret => "secret",
                    Kind::ServiceAccountToken => "token",
                };
                let message = format!("{word} {name:?} has no key {:?}", item.key);
                return Err(fetched.without_key(kind, name, message));
            }
        }
    }
    Ok(())
}

fn fields<'a>(
    pod: &Pod,
    items: impl Iterator<Item = &'a DownwardAPIVolumeFile>,
    mode: i32,
    all: &mut Vec<File>,
) -> Result<(), Unresolved> {
    for item in items {
        let Some(field) = &item.field_ref else {
            return Err(Unresolved::Invalid(format!(
                "the file {} needs a resourceFieldRef, which this node does not have",
                item.path
            )));
        };
        let value = downward::field(pod, &field.field_path)?;
        all.push((
            item.path.clone(),
            value.into_bytes(),
            item.mode.unwrap_or(mode),
        ));
    }
    Ok(())
}

/// The mounts of a container for its `volumeMounts`, outer before inner.
pub(super) fn mounts(
    pod: &Pod,
    container: &Container,
    place: &Place<'_>,
    env: &[(String, String)],
) -> Result<Vec<Mount>, Unresolved> {
    let mut mounts = Vec::new();
    for mount in container.volume_mounts.iter().flatten() {
        let volume = volumes(pod)
            .find(|volume| volume.name == mount.name)
            .ok_or_else(|| Unresolved::Invalid(format!("there is no volume {:?}", mount.name)))?;
        let expression = mount.sub_path_expr.as_deref().map(|text| {
            expand(text, |name| {
                let found = env.iter().find(|(key, _)| key == name);
                found.map(|(_, value)| value.as_str())
            })
        });
        let sub_path = expression
            .or_else(|| mount.sub_path.clone())
            .filter(|path| !path.is_empty())
            .map(PathBuf::from);
        let empty = volume.empty_dir.is_some();
        let (path, writable) = match &volume.host_path {
            Some(host) => (PathBuf::from(&host.path), true),
            None => (place.volume(&volume.name), empty),
        };
        mounts.push(Mount {
            destination: Path::new("/").join(&mount.mount_path),
            source: Source::Bind {
                path,
                sub_path,
                owned: empty,
            },
            readonly: mount.read_only == Some(true) || !writable,
        });
    }
    mounts.sort_by_key(|mount| mount.destination.components().count());
    Ok(mounts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(yaml: &str) -> Pod {
        serde_saphyr::from_str(yaml).unwrap()
    }

    fn made(yaml: &str, fetched: &Fetched) -> (tempfile::TempDir, Result<(), String>) {
        let directory = tempfile::tempdir().unwrap();
        let place = Place {
            directory: directory.path(),
        };
        let result = make(&pod(yaml), &place, fetched).map_err(|error| error.to_string());
        (directory, result)
    }

    #[test]
    fn items_modes_and_nested_paths() {
        let fetched = Fetched::of(Kind::Secret, "s", &[("a", "1"), ("b", "2")]);
        let yaml = "
metadata: {name: p}
spec:
  containers: []
  volumes:
  - {name: all, secret: {secretName: s, defaultMode: 256}}
  - {name: some, secret: {secretName: s, items: [{key: a, path: deep/x, mode: 384}]}}
  - {name: none, secret: {secretName: gone, optional: true}}
  - {name: work, emptyDir: {}}
  - name: mixed
    projected: {sources: [{secret: {name: s}}, {downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}]}}]}
";
        let (directory, result) = made(yaml, &fetched);
        result.unwrap();
        let volumes = directory.path().join("volumes");
        let mode = |path: &str| {
            fs::metadata(volumes.join(path))
                .unwrap()
                .permissions()
                .mode()
                & 0o777
        };
        assert_eq!(fs::read_to_string(volumes.join("all/b")).unwrap(), "2");
        assert_eq!(
            (mode("all/b"), mode("some/deep/x"), mode("mixed/a")),
            (0o400, 0o600, 0o644)
        );
        assert!(!volumes.join("some/b").exists());
        assert_eq!(fs::read_dir(volumes.join("none")).unwrap().count(), 0);
        assert_eq!((mode("work"), mode(".")), (0o777, 0o700));
        assert_eq!(fs::read_to_string(volumes.join("mixed/name")).unwrap(), "p");
    }

    #[test]
    fn what_is_missing_or_climbs_is_named() {
        let fetched = Fetched::of(Kind::ConfigMap, "m", &[("a", "1")]);
        for (volume, message) in [
            ("configMap: {name: gone}", "configmap \"gone\" not found"),
            (
                "configMap: {name: m, items: [{key: b, path: b}]}",
                "configmap \"m\" has no key \"b\"",
            ),
            (
                "configMap: {name: m, items: [{key: a, path: ../a}]}",
                "volume \"v\": ../a: the path must be relative and must not contain '..'",
            ),
            (
                "projected: {sources: [{serviceAccountToken: {path: token}}]}",
                "service account \"default\" not found",
            ),
        ] {
            let yaml = format!(
                "metadata: {{name: p}}\nspec: {{containers: [], volumes: [{{name: v, {volume}}}]}}"
            );
            assert_eq!(made(&yaml, &fetched).1.unwrap_err(), message);
        }
    }

    #[test]
    fn outer_mounts_come_first_and_content_is_read_only() {
        let pod = pod("
metadata: {name: p}
spec:
  containers:
  - name: c
    volumeMounts:
    - {name: m, mountPath: /w/docs/x.md, subPath: x.md}
    - {name: w, mountPath: /w}
    - {name: h, mountPath: /repo, readOnly: true}
    - {name: w, mountPath: /e, subPathExpr: $(NAME)/x}
  volumes: [{name: w, emptyDir: {}}, {name: m, configMap: {name: m}}, {name: h, hostPath: {path: /srv/repo}}]
");
        let place = Place {
            directory: Path::new("/d"),
        };
        let container = &pod.spec.as_ref().unwrap().containers[0];
        let env = [("NAME".to_owned(), "n".to_owned())];
        let mounts = mounts(&pod, container, &place, &env).unwrap();
        let seen: Vec<_> = mounts
            .iter()
            .map(|mount| {
                let Source::Bind {
                    path,
                    sub_path,
                    owned,
                } = &mount.source
                else {
                    panic!()
                };
                let sub = sub_path.as_ref().map(|path| path.to_str().unwrap());
                (
                    mount.destination.to_str().unwrap(),
                    path.to_str().unwrap(),
                    sub,
                    *owned,
                    mount.readonly,
                )
            })
            .collect();
        assert_eq!(
            seen,
            [
                ("/w", "/d/volumes/w", None, true, false),
                ("/repo", "/srv/repo", None, false, true),
                ("/e", "/d/volumes/w", Some("n/x"), true, false),
                ("/w/docs/x.md", "/d/volumes/m", Some("x.md"), false, true),
            ]
        );
    }
}
