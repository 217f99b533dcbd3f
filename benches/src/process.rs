//! Child processes, and what they write.

use std::env;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A measurement that takes longer is given up.
pub const TOO_LONG: Duration = Duration::from_secs(120);

/// What a command that goes well writes to its stdout. Of one that fails, the first line there tells why.
pub fn output(command: &mut Command, limit: Duration) -> Result<String, String> {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
    let started = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut child = started.map_err(|e| format!("cannot start {name}: {e}"))?;
    let deadline = Instant::now() + limit;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < deadline => sleep(Duration::from_millis(5)),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("{name} takes longer than {limit:?}"));
            }
            Err(e) => return Err(format!("cannot wait for {name}: {e}")),
        }
    };
    // It is short enough to wait in the pipe.
    let mut out = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_string(&mut out).map_err(|e| format!("cannot read from {name}: {e}"))?;
    }
    match (status.success(), out.lines().next()) {
        (true, _) => Ok(out),
        (false, Some(why)) => Err(why.to_owned()),
        (false, None) => Err(format!("{name}: {status}")),
    }
}

/// What a command says, without the white space around it; `None` if it fails or there is none.
pub fn said(program: &str, args: &[&str]) -> Option<String> {
    let out = Command::new(program).args(args).stderr(Stdio::null()).output().ok()?;
    out.status.success().then(|| String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

/// This program's file.
pub fn this_program() -> Result<PathBuf, String> {
    env::current_exe().map_err(|e| format!("cannot find this program: {e}"))
}

/// Where cargo has put this program, but for the profile's directory.
pub fn target_directory() -> Result<PathBuf, String> {
    let this = this_program()?;
    this.parent().and_then(Path::parent).map(Path::to_owned).ok_or("there is no target directory".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration) -> Result<String, String> {
        output(Command::new("/bin/sh").args(["-c", script]), limit)
    }

    #[test]
    fn a_command_is_told_by_its_output_or_its_failure() {
        assert_eq!(shell("echo 1 2", TOO_LONG), Ok("1 2\n".to_owned()));
        assert_eq!(shell("exit 3", TOO_LONG), Err("sh: exit status: 3".to_owned()));
        assert_eq!(shell("echo no room; exit 3", TOO_LONG), Err("no room".to_owned()));
        let endless = shell("sleep 60", Duration::from_millis(1));
        assert_eq!(endless, Err("sh takes longer than 1ms".to_owned()));
    }
}
