//! The system calls that a program in a container is refused.
//!
//! A short list of what only an attack on the kernel or the host needs, in the spirit of the
//! default profile of container runtimes: everything that changes mounts or namespaces, loads code
//! into the kernel, or reads across processes by kernel means. git, shells, compilers, Node.js and
//! debuggers work as always. Refused calls answer EPERM; `clone3` answers ENOSYS, so that C
//! libraries fall back to `clone`, whose flags can be looked at.

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

use super::spec::{Context as _, SetupError};

/// Refused whatever the arguments are.
const REFUSED: &[libc::c_long] = &[
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_setns,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_open_by_handle_at,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_syslog,
    libc::SYS_vhangup,
    libc::SYS_fanotify_init,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
];

/// Flags of `clone` and `unshare` that would make a namespace.
const NAMESPACE_FLAGS: &[libc::c_int] = &[
    libc::CLONE_NEWNS,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWCGROUP,
];

/// Requests of `ioctl` that put input into a terminal.
const TERMINAL_INPUT: &[u64] = &[0x5412, 0x541c];

type Rules = BTreeMap<libc::c_long, Vec<SeccompRule>>;

/// Applies the filter to this process for good.
pub(super) fn apply() -> Result<(), SetupError> {
    let what = "restricting system calls";
    for (rules, errno) in [
        (refused().or_other(what)?, libc::EPERM),
        (Rules::from([(libc::SYS_clone3, Vec::new())]), libc::ENOSYS),
    ] {
        let program = compile(with_x32(rules), errno).or_other(what)?;
        seccompiler::apply_filter(&program).or_other(what)?;
    }
    Ok(())
}

fn compile(rules: Rules, errno: libc::c_int) -> Result<BpfProgram, seccompiler::BackendError> {
    SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(errno.unsigned_abs()),
        std::env::consts::ARCH.try_into()?,
    )?
    .try_into()
}

fn refused() -> Result<Rules, seccompiler::BackendError> {
    let mut rules: Rules = REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    let flags = || {
        NAMESPACE_FLAGS
            .iter()
            .map(|flag| {
                let flag = u64::from(flag.unsigned_abs());
                SeccompRule::new(vec![SeccompCondition::new(
                    0,
                    SeccompCmpArgLen::Dword,
                    SeccompCmpOp::MaskedEq(flag),
                    flag,
                )?])
            })
            .collect::<Result<Vec<_>, _>>()
    };
    rules.insert(libc::SYS_unshare, flags()?);
    rules.insert(libc::SYS_clone, flags()?);
    let requests = TERMINAL_INPUT
        .iter()
        .map(|request| {
            SeccompRule::new(vec![SeccompCondition::new(
                1,
                SeccompCmpArgLen::Dword,
                SeccompCmpOp::Eq,
                *request,
            )?])
        })
        .collect::<Result<Vec<_>, _>>()?;
    rules.insert(libc::SYS_ioctl, requests);
    Ok(rules)
}

/// The same calls by their second number: x86-64 kernels may know a 32-bit variant of each.
fn with_x32(mut rules: Rules) -> Rules {
    if cfg!(target_arch = "x86_64") {
        let second: Vec<_> = rules
            .iter()
            .map(|(call, conditions)| (call | 0x4000_0000, conditions.clone()))
            .collect();
        rules.extend(second);
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_compiles() {
        assert!(compile(with_x32(refused().unwrap()), libc::EPERM).is_ok());
    }
}
