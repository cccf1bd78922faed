//! A repository of our own with the commits of a checkout.
//!
//! git reads the configuration of a repository wherever it works in it, also of one that it fetches from, and some of it
//! names programs. So between the checkout and our repository there is a third one, the *source*: a directory that we
//! wrote ourselves, with a configuration, two refs and the ends of history, and of the checkout nothing but its objects,
//! by `objects/info/alternates`. We fetch from that: the objects come in as a pack, and each is named anew by what is in
//! it. Our repository then needs nothing of the checkout, and has no alternates, for whose sake git would look into the
//! checkout once more.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::left::{Aside, Left};
use crate::git::{Access, Failure, Kind, Purpose};

/// The commit that HEAD was at; in the source and in our repository.
const HEAD: &str = "refs/kubeopencode/head";
/// The commit that the agent began with.
const BASE: &str = "refs/kubeopencode/base";
/// Below it, the branches that HEAD is not on, by number: their names are the agent's.
const ASIDE: &str = "refs/kubeopencode/aside";

/// Our repository.
pub(crate) struct Own {
    pub directory: PathBuf,
    /// The commit that the checkout's HEAD was at.
    pub head: String,
    /// Whether HEAD has commits that the base has not.
    pub has_commits: bool,
    /// A commit that the remote had when the agent began, and on which everything new is built.
    pub boundary: Option<String>,
    /// Branches with commits that neither HEAD nor the base has; in our repository too, as `refs/kubeopencode/aside/N`.
    pub aside: Vec<Aside>,
}

impl Own {
    /// Makes it below `work`, an empty directory, with the commits of HEAD, and of those of `aside` that are to be had.
    /// `local` has no credentials.
    pub(super) fn make(
        work: &Path,
        left: &Left,
        aside: Vec<Aside>,
        base: &str,
        local: &Access<'_>,
    ) -> Result<Self, Failure> {
        let source = work.join("source");
        let written = write_source(&source, left, base);
        written.map_err(|error| Kind::of_place("cannot prepare the fetch", &error))?;
        // The agent may have made the repository anew.
        let has_base = local.is_so(&source, &["cat-file", "-e", base])?;
        let is_in = |commit: &str, known: &str| {
            local.is_so(&source, &["merge-base", "--is-ancestor", commit, known])
        };
        let has_commits = left.head != base && !(has_base && is_in(&left.head, base)?);
        let mut known: Vec<&str> = [left.head.as_str()].into();
        known.extend(has_base.then_some(base));
        let mut new = Vec::new();
        for aside in aside {
            let mut is_known = false;
            for known in &known {
                is_known = is_known || *known == aside.commit || is_in(&aside.commit, known)?;
            }
            if !is_known {
                new.push(aside);
            }
        }
        let aside = new;
        for (number, aside) in aside.iter().enumerate() {
            fs::create_dir_all(source.join(ASIDE))
                .and_then(|()| {
                    let file = source.join(format!("{ASIDE}/{number}"));
                    fs::write(file, format!("{}\n", aside.commit))
                })
                .map_err(|error| Kind::of_place("cannot prepare the fetch", &error))?;
        }
        let boundary = match (has_commits, has_base) {
            (false, _) => Some(left.head.clone()),
            (true, true) => Some(base.to_owned()),
            (true, false) => None,
        };
        let own = Self {
            directory: work.join("own"),
            head: left.head.clone(),
            has_commits,
            boundary,
            aside,
        };
        own.fetch(&source, left, has_base, local)?;
        // Nothing of the checkout is needed from here on.
        fs::remove_dir_all(&source).map_err(|error| Kind::of_place("cannot tidy up", &error))?;
        Ok(own)
    }

    /// History is cut where the remote has the rest.
    fn fetch(
        &self,
        source: &Path,
        left: &Left,
        has_base: bool,
        local: &Access<'_>,
    ) -> Result<(), Failure> {
        let ends = list(left.shallow.iter().chain(&self.boundary));
        fs::create_dir(&self.directory)
            .and_then(|()| fs::write(source.join("shallow"), ends))
            .map_err(|error| Kind::of_place("cannot prepare the fetch", &error))?;
        let mut init = vec!["init", "-q", "--bare"];
        if self.head.len() == 64 {
            init.push("--object-format=sha256");
        }
        self.git(local, Purpose::Local, &init)?;
        let url = format!("file://{}", source.display());
        let refs = [HEAD, BASE].map(|name| format!("+{name}:{name}"));
        let mut fetch = vec![
            "fetch",
            "--progress",
            "--no-tags",
            "--update-shallow",
            // Our image has git, and none of its other names.
            "--upload-pack=git upload-pack",
            "--",
            &url,
            &refs[0],
        ];
        if self.has_commits && has_base {
            fetch.push(&refs[1]);
        }
        let aside = format!("+{ASIDE}/*:{ASIDE}/*");
        if !self.aside.is_empty() {
            fetch.push(&aside);
        }
        self.git(local, Purpose::Local, &fetch).map(drop)
    }

    /// Runs git in it.
    pub fn git(
        &self,
        access: &Access<'_>,
        purpose: Purpose,
        arguments: &[&str],
    ) -> Result<String, Failure> {
        access.git(&self.directory, purpose, arguments, &|_| {})
    }
}

/// One in each line.
fn list<'l>(commits: impl IntoIterator<Item = &'l String>) -> String {
    commits
        .into_iter()
        .flat_map(|commit| [commit.as_str(), "\n"])
        .collect()
}

fn write_source(source: &Path, left: &Left, base: &str) -> io::Result<()> {
    let sha256 = left.head.len() == 64;
    // What git keeps beside objects to be faster is not needed, and need not be true.
    let config = format!(
        "[core]\n\trepositoryFormatVersion = {}\n\tbare = true\n\tcommitGraph = false\n\tmultiPackIndex = false\n\
         [pack]\n\tuseBitmaps = false\n\treadReverseIndex = false\n{}",
        u8::from(sha256),
        if sha256 {
            "[extensions]\n\tobjectFormat = sha256\n"
        } else {
            ""
        }
    );
    let objects = left.objects.display().to_string();
    if objects.chars().any(char::is_control) {
        return Err(io::Error::other("a control character in the path"));
    }
    fs::create_dir_all(source.join("objects/info"))?;
    fs::create_dir_all(source.join("refs/kubeopencode"))?;
    fs::write(source.join("config"), config)?;
    fs::write(source.join("HEAD"), format!("ref: {HEAD}\n"))?;
    fs::write(source.join(HEAD), format!("{}\n", left.head))?;
    fs::write(source.join(BASE), format!("{base}\n"))?;
    fs::write(source.join("shallow"), list(&left.shallow))?;
    fs::write(source.join("objects/info/alternates"), objects + "\n")
}
