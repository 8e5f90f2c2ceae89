//! Provides small disks that can be filled: a memory file system that only one process sees, or those that a
//! [`SmallDisk`] starts. It ends with the process, so no mount is left behind. A [`HangingFile`] is one that nobody can
//! read to its end.

use std::cell::OnceCell;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};

/// Checks whether this machine allows small disks; the error is the reason why not.
pub fn small_disks() -> Result<(), String> {
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    let tried = on_small_disk(Path::new("true"), directory.path(), 1).output();
    let tried = tried.map_err(|error| format!("cannot run unshare: {error}"))?;
    if tried.status.success() {
        return Ok(());
    }
    Err(format!("no mount namespace: {}", String::from_utf8_lossy(&tried.stderr).trim()))
}

/// A command that makes `directory`, mounts a disk of `mib` MiB on it and runs `program`.
pub fn on_small_disk(program: &Path, directory: &Path, mib: u32) -> Command {
    prepared(program, &small_disk(mib), &[directory])
}

/// A shell script that mounts a disk of `mib` MiB on `$1`.
pub fn small_disk(mib: u32) -> String {
    format!(r#"mkdir -p "$1" && mount -t tmpfs -o "size={mib}m,mode=0700" none "$1""#)
}

/// A command that runs a shell script and then `program`. The script finds `paths` in `$1`, `$2` and so on.
/// Only that process sees what the script mounts.
pub fn prepared(program: &Path, script: &str, paths: &[&Path]) -> Command {
    let script = format!("{script}\nshift {}\nexec \"$@\"", paths.len());
    let mut command = Command::new("unshare");
    // Root in its own user namespace, so that a tester needs no privileges.
    command.args(["--map-root-user", "--mount", "sh", "-ec", &script, "sh"]).args(paths).arg(program);
    command
}

/// A small disk for several processes, one after the other. It ends when dropped.
pub struct SmallDisk {
    holder: Child,
    directory: PathBuf,
}

impl SmallDisk {
    /// Makes `directory` and mounts a disk of `mib` MiB on it, for the processes of [`command`](Self::command).
    pub fn mount(directory: &Path, mib: u32) -> Self {
        let mut command = on_small_disk(Path::new("sh"), directory, mib);
        command.args(["-c", "echo up; read -r line"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = command.spawn().expect("start the process that keeps a disk");
        let mut up = [0; 3];
        let output = holder.stdout.as_mut().expect("standard output");
        output.read_exact(&mut up).expect("mount a small disk");
        Self { holder, directory: directory.to_owned() }
    }

    /// A command for a process that sees the disk.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.args([
            "--target",
            &self.holder.id().to_string(),
            "--user",
            "--mount",
            "--preserve-credentials",
        ]);
        command.arg("--").arg(program);
        command
    }

    /// Makes the directory read-only, for whatever opens, renames or removes a file from now on.
    pub fn forbid_changes(&self) {
        self.inside(&["mount", "--bind", "-o", "ro"], &[&self.directory, &self.directory]);
    }

    /// Undoes [`forbid_changes`](Self::forbid_changes).
    pub fn allow_changes(&self) {
        self.inside(&["umount", "--lazy"], &[&self.directory]);
    }

    /// Runs a command where the disk is seen.
    fn inside(&self, command: &[&str], paths: &[&Path]) {
        let status = self.command(Path::new(command[0])).args(&command[1..]).args(paths).status();
        assert!(status.expect("run a command").success(), "{command:?} failed");
    }

    /// The directory for processes that do not see the disk.
    pub fn path(&self) -> PathBuf {
        inside(self.holder.id(), &self.directory)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // An error means that the process has already ended.
        drop(self.holder.kill());
        drop(self.holder.wait());
    }
}

/// `path` as the process sees it.
pub fn inside(process: u32, path: &Path) -> PathBuf {
    let root = Path::new("/proc").join(process.to_string()).join("root");
    root.join(path.strip_prefix("/").expect("an absolute path"))
}

/// A file that fills a disk to the last byte.
pub struct Ballast(PathBuf);

impl Ballast {
    /// Fills the disk of `directory`.
    pub fn fill(directory: &Path) -> Self {
        let path = directory.join("ballast");
        let mut file = File::create(&path).expect("make the ballast file");
        for size in [1 << 20, 1 << 12, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
        Self(path)
    }

    pub fn remove(self) {
        std::fs::remove_file(self.0).expect("remove the ballast file");
    }
}

/// A named pipe in the place of a file. It stands for a file system that hangs: who opens it waits for somebody that
/// writes.
pub struct HangingFile {
    path: PathBuf,
    writer: OnceCell<File>,
}

impl HangingFile {
    /// Replaces the file at `path`.
    pub fn replace(path: &Path) -> Self {
        std::fs::remove_file(path).expect("remove a file");
        mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("make a named pipe");
        Self { path: path.to_owned(), writer: OnceCell::new() }
    }

    /// Whether somebody has begun to read it. He goes on waiting.
    pub fn is_read(&self) -> bool {
        let mut options = File::options();
        // A pipe can be opened for writing without a wait only while somebody reads it.
        options.write(true).custom_flags(i32::try_from(OFlags::NONBLOCK.bits()).expect("flags"));
        if self.writer.get().is_none()
            && let Ok(opened) = options.open(&self.path)
        {
            self.writer.set(opened).expect("opened once");
        }
        self.writer.get().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::did_not_run;

    #[test]
    fn a_small_disk_is_full_until_the_ballast_is_removed() {
        if let Err(reason) = small_disks() {
            return did_not_run("disk::tests::a_small_disk_is_full_until_the_ballast_is_removed", &reason);
        }
        let directory = tempfile::tempdir().unwrap();
        let small = SmallDisk::mount(directory.path(), 1);
        let disk = small.path();
        let ballast = Ballast::fill(&disk);
        let full = std::fs::write(disk.join("file"), [0]).unwrap_err();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
        ballast.remove();
        std::fs::write(disk.join("file"), vec![0; 1 << 19]).unwrap();
        assert!(!directory.path().join("file").exists(), "other processes see the disk");

        let succeeds = |script: &str| {
            let mut other = small.command(Path::new("sh"));
            other.args(["-c", script, "sh"]).arg(directory.path().join("file")).status().unwrap().success()
        };
        assert!(
            succeeds(r#"[ "$(wc -c <"$1")" = 524288 ]"#),
            "a process that is told to does not see the file"
        );
        small.forbid_changes();
        assert!(!succeeds(r#"mv "$1" "$1.new""#), "the disk is not read-only");
        small.allow_changes();
        assert!(succeeds(r#"mv "$1" "$1.new""#), "the disk is still read-only");
    }
}
