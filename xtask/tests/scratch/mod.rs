//! A small course in a directory of its own, to run the tool on.
#![allow(dead_code, reason = "every suite uses a part of it")]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A course in a git repository. It is gone when this is dropped.
pub(crate) struct Course {
    dir: TempDir,
}

/// What a command printed, both streams, and whether its exit code was 0.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) ok: bool,
    pub(crate) text: String,
}

impl Course {
    /// Only the workspace's manifest and the course's line width.
    pub(crate) fn new() -> Course {
        let course = Course { dir: tempfile::tempdir().unwrap() };
        course.write("Cargo.toml", "[workspace]\nmembers = []\n");
        course.write("rustfmt.toml", "max_width = 110\nuse_small_heuristics = \"Max\"\n");
        course.git(&["init", "--quiet"]);
        course
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Writes the same file into several days, with `CRATE` replaced by each crate's name in Rust.
    pub(crate) fn write_in(&self, days: &[&str], path: &str, text: &str) {
        for day in days {
            self.write(&format!("{day}/{path}"), &text.replace("CRATE", &day.replace('-', "_")));
        }
    }

    /// Writes a suite with these stages (the text of each) into several days, as [`write_in`](Course::write_in) does,
    /// and declares it.
    pub(crate) fn suite(&self, days: &[&str], name: &str, stages: &[(&str, &str)]) {
        let dir = format!("tests/suites/{name}");
        let mods: String = stages.iter().map(|(stage, _)| format!("mod {stage};\n")).collect();
        self.write_in(days, &format!("{dir}/mod.rs"), &mods);
        for (stage, text) in stages {
            self.write_in(days, &format!("{dir}/{stage}.rs"), text);
        }
        for day in days {
            let entries = fs::read_dir(self.path(&format!("{day}/tests/suites"))).unwrap();
            let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let mut mods: Vec<String> = names.filter(|name| name.starts_with("day")).collect();
            mods.sort();
            let main: String = mods.iter().map(|name| format!("mod {name};\n")).collect();
            self.write(&format!("{day}/tests/suites/main.rs"), &main);
        }
    }

    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    pub(crate) fn remove(&self, path: &str) {
        fs::remove_file(self.path(path)).unwrap();
    }

    pub(crate) fn commit(&self) {
        self.git(&["add", "--all"]);
        let who = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"];
        self.git(&[&who[..], &["commit", "--quiet", "--allow-empty", "--no-verify", "-m", "."]].concat());
    }

    /// What git prints.
    pub(crate) fn git(&self, args: &[&str]) -> String {
        let ran = self.run(Command::new("git").args(args));
        assert!(ran.ok, "git {args:?}: {}", ran.text);
        ran.text
    }

    /// `cargo xtask …`
    pub(crate) fn xtask(&self, args: &[&str]) -> Ran {
        // What it builds belongs in this course, wherever the tool itself was built.
        self.run(Command::new(env!("CARGO_BIN_EXE_xtask")).args(args).env_remove("CARGO_TARGET_DIR"))
    }

    /// `cargo xtask … | true`: nobody reads what it writes. What it says on standard error.
    pub(crate) fn xtask_unread(&self, args: &[&str]) -> String {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.args(args).current_dir(self.dir.path()).env("CARGO_TARGET_DIR", self.path("target"));
        let output = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap().wait_with_output();
        String::from_utf8(output.unwrap().stderr).unwrap()
    }

    fn run(&self, command: &mut Command) -> Ran {
        command.current_dir(self.dir.path()).env("CARGO_TARGET_DIR", self.path("target"));
        let output = command.output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        Ran { ok: output.status.success(), text: String::from_utf8(text).unwrap() }
    }
}

impl Ran {
    /// Whether one line has all of these words.
    pub(crate) fn says(&self, words: &[&str]) -> bool {
        self.text.lines().any(|line| words.iter().all(|word| line.contains(word)))
    }
}
