//! Processes that do not outlive who started them.

use std::process::Command;

/// Has the kernel kill the process that `command` starts, for good, when the thread that starts it ends, however that
/// comes about. What that process starts itself is not killed with it. Without effect on other systems than Linux.
pub fn end_with_parent(command: &mut Command) -> &mut Command {
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::process::CommandExt;

        let parent = rustix::process::getpid();
        let bind = move || {
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
            // It may have ended before the kernel was told.
            match rustix::process::getppid() == Some(parent) {
                true => Ok(()),
                false => Err(std::io::ErrorKind::BrokenPipe.into()),
            }
        };
        // SAFETY: between fork and exec it makes two system calls and nothing else: it takes no lock and no memory.
        unsafe { command.pre_exec(bind) };
    }
    command
}
