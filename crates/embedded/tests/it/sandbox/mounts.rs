//! What a container sees of the host's files and of its volumes, and what it may write.

use std::{collections::BTreeMap, fs, os::unix::fs::symlink, path::Path};

use kubeopencode_embedded::node::sandbox::{Ended, RootFs, SetupReason, User};

use super::{Bed, bind, finish, listing, readonly, shell, sub_path};

#[tokio::test]
async fn the_host_is_never_written_to() {
    for bed in Bed::all() {
        let script = "for d in /etc /usr /usr/bin /opt /var /var/lib /sys /proc/sys/kernel; do \
              if [ -d $d ] && touch $d/kubeopencode-was-here 2>/dev/null; then echo wrote $d; fi; done; \
            for f in /proc/sys/kernel/core_pattern /proc/sysrq-trigger /proc/sys/vm/drop_caches /etc/passwd; do \
              if (: >>$f) 2>/dev/null; then echo can write $f; fi; done; \
            for f in /dev/null /dev/tty /dev/urandom /dev/stdin; do \
              if chmod 666 $f 2>/dev/null; then echo can change $f; fi; done; \
            mkdir /mine /root/mine /tmp/mine /var/tmp/mine && echo mine";
        let (output, ended) = bed.run(&shell(script)).await;
        assert_eq!(
            (output.as_str(), ended),
            ("mine\n", Ended::Exited(0)),
            "as {}",
            bed.uid
        );
        let mut container = shell("touch /x 2>/dev/null || echo refused");
        container.readonly_root = true;
        assert!(bed.run(&container).await.0.ends_with("refused\n"));
        for place in [
            "/mine",
            "/x",
            "/root/mine",
            "/etc/kubeopencode-was-here",
            "/tmp/mine",
        ] {
            assert!(!Path::new(place).exists(), "{place} on the host");
        }
    }
}

#[tokio::test]
async fn a_read_only_bind_cannot_be_remounted() {
    for bed in Bed::all() {
        let volume = bed.volume("data");
        let mut container = shell(
            "for d in /data /etc /usr /proc/sys; do mount -o remount,bind,rw $d && echo remounted $d; \
               umount $d && echo unmounted $d; touch $d/written && echo wrote $d; done; \
             mount -t tmpfs none /data && echo mounted; \
             unshare -U true && echo unshared; unshare -Urm mount -o remount,bind,rw /data && echo nested; \
             unshare -m true && echo unshared; nsenter -t 1 -m true && echo entered; \
             cat /proc/1/environ && echo read; ls /proc/1/root/ && echo looked; \
             kill -KILL 1; kill -TERM 1; echo alive",
        );
        container.mounts = vec![readonly(&volume, "/data")];
        let (output, ended) = bed.run(&container).await;
        assert_eq!(ended, Ended::Exited(0), "{output}");
        for word in [
            "remounted",
            "unmounted",
            "wrote",
            "mounted\n",
            "unshared",
            "nested",
            "entered",
            "read\n",
            "looked",
        ] {
            assert!(
                !output.contains(&format!("\n{word}")) && !output.starts_with(word),
                "{word}: {output}"
            );
        }
        assert!(output.contains("alive\n"), "{output}");
        assert!(listing(&volume).is_empty());
    }
}

#[tokio::test]
async fn volumes_are_shared_and_belong_to_the_user_inside() {
    for bed in Bed::all() {
        let volume = bed.volume("work");
        let mut container = shell(
            "id -u; id -g; echo hello > /workspace/a/file; stat -c %u /workspace/a/file /etc/passwd; pwd",
        );
        container.mounts = vec![bind(&volume, "/workspace")];
        container.process.cwd = "/workspace/a".into();
        container.process.user = User {
            uid: 1000,
            gid: 1001,
        };
        let (output, ended) = bed.run(&container).await;
        // What belongs to the host's root is root's only for a node run by root.
        let root = if bed.uid == 0 { 1000 } else { 65534 };
        assert_eq!(output, format!("1000\n1001\n1000\n{root}\n/workspace/a\n"));
        assert_eq!(ended, Ended::Exited(0));
        assert_eq!(
            fs::read_to_string(volume.join("a/file")).unwrap(),
            "hello\n"
        );
        let owner =
            std::os::unix::fs::MetadataExt::uid(&fs::metadata(volume.join("a/file")).unwrap());
        assert_eq!(owner, bed.uid);
    }
}

#[tokio::test]
async fn one_file_over_a_directory_of_the_host() {
    for bed in Bed::all() {
        let key = bed.directory.path().join("key");
        bed.file(&key, "secret");
        let mut container = shell(
            "cat /etc/app/key.json /etc/app.conf /usr/share/app/deep/x; ls -d /etc/passwd /usr/share/doc; \
            ls -A /etc | wc -l; (echo >/etc/app/key.json) 2>/dev/null || echo ro",
        );
        container.mounts = [
            "/etc/app/key.json",
            "/etc/app.conf",
            "/usr/share/app/deep/x",
            "/top.txt",
        ]
        .map(|place| readonly(&key, place))
        .to_vec();
        let (output, ended) = bed.run(&container).await;
        assert_eq!(ended, Ended::Exited(0), "{output}");
        let lines: Vec<&str> = output.lines().collect();
        assert_eq!(lines[0], "secretsecretsecret/etc/passwd");
        // Everything else of /etc is still there, and two more.
        let names = fs::read_dir("/etc").unwrap().count() + 2;
        assert_eq!(lines[2], names.to_string());
        assert_eq!(lines[3], "ro");
        assert!(!Path::new("/etc/app").exists() && !Path::new("/usr/share/app").exists());
    }
}

#[tokio::test]
async fn a_file_inside_a_volume() {
    for bed in Bed::all() {
        let (volume, key) = (bed.volume("work"), bed.directory.path().join("key"));
        bed.file(&key, "text");
        let mut container = shell(
            "cat /workspace/docs/guide.md; (echo >/workspace/docs/guide.md) 2>/dev/null || echo ro",
        );
        container.mounts = vec![
            bind(&volume, "/workspace"),
            readonly(&key, "/workspace/docs/guide.md"),
        ];
        assert_eq!(bed.run(&container).await.0, "textro\n");
        // A host's directory gets no place made in it.
        let foreign = bed.volume("foreign");
        container.mounts = vec![
            readonly(&foreign, "/workspace"),
            readonly(&key, "/workspace/docs/guide.md"),
        ];
        container.mounts[0].readonly = false;
        let error = bed
            .start(&container)
            .await
            .expect_err("a place in a host's directory");
        assert!(
            error.message.contains("/workspace/docs/guide.md"),
            "{error}"
        );
        assert!(listing(&foreign).is_empty());
    }
}

#[tokio::test]
async fn a_link_in_a_volume_leads_nowhere_on_the_host() {
    for bed in Bed::all() {
        let (volume, host, key) = (
            bed.volume("work"),
            bed.volume("host"),
            bed.directory.path().join("key"),
        );
        bed.file(&host.join("private"), "private");
        bed.file(&key, "text");
        symlink(&host, volume.join("link")).unwrap();
        symlink("/old/etc", volume.join("old")).unwrap();
        symlink("../host", volume.join("relative")).unwrap();
        symlink("/etc", volume.join("etc")).unwrap();
        let before = listing(&host);
        for destination in [
            "/w/link/new/file",
            "/w/old/new",
            "/w/relative/new",
            "/w/link/private",
        ] {
            let mut container = shell("true");
            container.mounts = vec![bind(&volume, "/w"), readonly(&key, destination)];
            match bed.start(&container).await {
                Ok(started) => drop(finish(started).await),
                Err(error) => assert_eq!(error.reason, SetupReason::Mount, "{destination}"),
            }
            assert_eq!(listing(&host), before, "{destination}");
            assert_eq!(fs::read_to_string(host.join("private")).unwrap(), "private");
        }
        let mut container = shell("cat /w/link/private");
        container.mounts = vec![bind(&volume, "/w")];
        assert!(bed.run(&container).await.0.contains("No such file"));
        for sub in ["link", "relative", "etc/passwd", "../host", "link/private"] {
            container.mounts = vec![sub_path(&volume, sub, "/w")];
            let error = bed.start(&container).await.expect_err(sub);
            assert!(
                error.message.contains("subPath leads out"),
                "{sub}: {error}"
            );
        }
        assert!(!Path::new("/etc/new").exists());
    }
}

#[tokio::test]
async fn a_sub_path_of_a_volume() {
    for bed in Bed::all() {
        let volume = bed.volume("work");
        fs::create_dir(volume.join("there")).unwrap();
        bed.file(&volume.join("there/file"), "text");
        symlink("there", volume.join("alias")).unwrap();
        let mut container = shell("cat /a/file /b/file /c; ls /new");
        container.mounts = vec![
            sub_path(&volume, "there", "/a"),
            sub_path(&volume, "alias", "/b"),
            sub_path(&volume, "there/file", "/c"),
            sub_path(&volume, "new/deep", "/new"),
        ];
        assert_eq!(bed.run(&container).await.0, "texttexttext");
        assert!(volume.join("new/deep").is_dir());
    }
}

#[tokio::test]
async fn read_only_reaches_mounts_below_and_keeps_their_flags() {
    for bed in Bed::all() {
        // /dev/shm of the host is a mount of its own with flags that must be kept.
        let mut container = shell(
            "touch /host-dev/shm/x 2>/dev/null && echo wrote; grep ' /host-dev' /proc/self/mountinfo",
        );
        container.mounts = vec![readonly(Path::new("/dev"), "/host-dev")];
        let (output, _) = bed.run(&container).await;
        assert!(!output.contains("wrote"), "{output}");
        // Of mounts on one place, the last covers the others.
        let top: BTreeMap<&str, &str> = output
            .lines()
            .map(|line| (line.split(' ').nth(4).unwrap(), line))
            .collect();
        assert!(top.len() >= 2, "no mount below: {output}");
        for line in top.values() {
            let options = line.split(' ').nth(5).unwrap();
            for flag in ["ro", "nosuid", "nodev"] {
                assert!(
                    options.split(',').any(|option| option == flag),
                    "{flag}: {line}"
                );
            }
        }
        assert!(!Path::new("/dev/shm/x").exists());
    }
}

#[tokio::test]
async fn hidden_and_visible_parts_of_the_host() {
    for bed in Bed::all() {
        let seen = bed.volume("seen");
        bed.file(&seen.join("file"), "text");
        let at = seen.join("file");
        let mut container = shell(&format!(
            "cat {} ; cat /etc/hostname; ls /usr/share/doc; touch {} 2>/dev/null || echo ro",
            at.display(),
            at.display()
        ));
        container.root = RootFs::Host {
            visible: vec![seen.clone()],
            hidden: vec![
                "/etc/hostname".into(),
                "/usr/share/doc".into(),
                "/no/such".into(),
            ],
        };
        let (output, ended) = bed.run(&container).await;
        assert_eq!((output.as_str(), ended), ("textro\n", Ended::Exited(0)));
        let (output, _) = bed.run(&shell("cat /etc/shadow; ls /etc/ssh/ssh_host_*_key && cat /etc/ssh/ssh_host_*_key | wc -c")).await;
        assert!(
            !output.contains("root:") && !output.contains("PRIVATE"),
            "{output}"
        );
    }
}
