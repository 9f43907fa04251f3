//! What the process does for its secrets before it has any: no core dumps, no debugger of the same user, no files that
//! others can read, no new privileges, and as much locked memory as the system grants.

use nix::sys::{
    prctl,
    resource::{Resource, getrlimit, setrlimit},
    stat::{Mode, umask},
};

use crate::error::Error;

/// Call it first thing, with one thread running.
pub fn harden() -> Result<(), Error> {
    umask(Mode::from_bits_truncate(0o077));
    // Two locks on one door: the limit holds for any dump handler that respects it, the flag also keeps other processes
    // of the same user from attaching and from reading /proc/PID/mem.
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(failed("RLIMIT_CORE"))?;
    prctl::set_dumpable(false).map_err(failed("PR_SET_DUMPABLE"))?;
    prctl::set_no_new_privs().map_err(failed("PR_SET_NO_NEW_PRIVS"))?;
    let (_, most) = getrlimit(Resource::RLIMIT_MEMLOCK).map_err(failed("RLIMIT_MEMLOCK"))?;
    setrlimit(Resource::RLIMIT_MEMLOCK, most, most).map_err(failed("RLIMIT_MEMLOCK"))
}

fn failed(step: &'static str) -> impl FnOnce(nix::Error) -> Error {
    move |source| Error::Hardening { step, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_dumps_and_no_files_for_others() {
        harden().unwrap();
        assert_eq!(getrlimit(Resource::RLIMIT_CORE).unwrap(), (0, 0));
        assert!(!prctl::get_dumpable().unwrap());
        assert!(prctl::get_no_new_privs().unwrap());
        let (soft, hard) = getrlimit(Resource::RLIMIT_MEMLOCK).unwrap();
        assert_eq!(soft, hard);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "x").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata().unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }
}
