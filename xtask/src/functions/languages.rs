//! How functions are built, language by language.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::{
    process,
    programs::{Folder, debian},
    tools::{NODE, NPM},
    workspace::Workspace,
};

/// A name, and the file with the module.
type Module = (String, PathBuf);

/// One language.
pub struct Language {
    /// Its name, which is that of its folder.
    pub name: &'static str,
    /// How the names of its sources end.
    pub extensions: &'static [&'static str],
    /// Whether what is built is kept in the repository.
    pub kept: bool,
    /// Builds the sources in the first folder; the second is for what is made on the way.
    pub build: fn(&Workspace, &Path, &Path) -> Result<Vec<Module>>,
}

/// All languages.
pub const LANGUAGES: &[Language] = &[
    Language {
        name: "rust",
        extensions: &["rs", "toml", "lock"],
        kept: true,
        build: rust,
    },
    Language {
        name: "cpp",
        extensions: &["cc", "h"],
        kept: true,
        build: cpp,
    },
    Language {
        name: "assemblyscript",
        extensions: &["ts", "json"],
        kept: true,
        build: assemblyscript,
    },
    Language {
        name: "go",
        extensions: &["go", "mod", "sum"],
        // Each has the whole runtime of Go in it: 2.7 MB.
        kept: false,
        build: go,
    },
];

/// A toolchain as Debian has it.
struct Packages {
    what: &'static str,
    /// A file that is there where they are installed.
    mark: &'static str,
    names: &'static [&'static str],
}

const CLANG: Packages = Packages {
    what: "clang for WebAssembly",
    mark: "usr/lib/wasm32-wasi/libc++.a",
    names: &[
        "clang-22",
        "libc++-22-dev-wasm32",
        "libc++abi-22-dev-wasm32",
        "libclang-common-22-dev",
        "libclang-cpp22",
        "libclang-rt-22-dev-wasm32",
        "libclang1-22",
        "libllvm22",
        "lld-22",
        "wasi-libc",
    ],
};

const RUSTC: Packages = Packages {
    what: "a compiler of Rust with the sources of its library",
    mark: "usr/lib/rustlib/src/rust/library/std/Cargo.toml",
    names: &[
        "libllvm22",
        "libstd-rust-web-1.96",
        "libstd-rust-web-dev",
        "lld-22",
        "rust-web-src",
        "rustc-web",
        "wasi-libc",
    ],
};

impl Packages {
    /// The folder that stands for `/`: where they are unpacked, in the user's cache.
    fn root(&self, workspace: &Workspace, name: &str) -> Result<PathBuf> {
        let root = Folder::of(workspace)?.path().join(format!("debian-{name}"));
        if !root.join(self.mark).is_file() {
            println!("getting {}: {}", self.what, self.names.join(" "));
            debian::unpack(self.names, &root).with_context(|| {
                format!(
                    "{} is missing and cannot be had from Debian 12; it is in the packages {}",
                    self.what,
                    self.names.join(" ")
                )
            })?;
        }
        Ok(root)
    }
}

/// The libraries that unpacked programs need.
fn libraries(root: &Path) -> PathBuf {
    root.join(format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH))
}

fn stems(folder: &Path, extension: &str) -> Result<Vec<String>> {
    let mut stems = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        if let Some(stem) = stem.filter(|_| path.extension().is_some_and(|found| found == extension)) {
            stems.push(stem.to_owned());
        }
    }
    stems.sort();
    Ok(stems)
}

/// With the toolchain's own library for the target, or with one built of Debian's sources.
fn rust(workspace: &Workspace, source: &Path, to: &Path) -> Result<Vec<Module>> {
    const TARGET: &str = "wasm32-wasip1";
    let mut cargo = workspace.cargo(["build", "--release", "--locked", "--quiet", "--target", TARGET]);
    cargo.current_dir(source).env("CARGO_TARGET_DIR", to);
    let mut flags = vec![format!("--remap-path-prefix={}=.", source.display())];
    if let Some(home) = home() {
        flags.push(format!("--remap-path-prefix={}=cargo", home.display()));
        // The name of the folder is that of a registry.
        for registry in fs::read_dir(home.join("registry/src")).into_iter().flatten() {
            flags.push(format!(
                "--remap-path-prefix={}=cargo",
                registry?.path().display()
            ));
        }
    }
    let own = process::capture(Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET]));
    if !own.is_ok_and(|folder| Path::new(folder.trim()).is_dir()) {
        let root = RUSTC.root(workspace, "rust-guests").context(
            "the toolchain has no library for wasm32-wasip1: `rustup target add wasm32-wasip1`, or",
        )?;
        flags.push(format!("--remap-path-prefix={}=", root.display()));
        flags.push(format!("-L{}", root.join("usr/lib/wasm32-wasi").display()));
        flags.push("-Clink-self-contained=no".to_owned());
        cargo
            .arg("-Zbuild-std=std,panic_abort")
            .env("RUSTC", root.join("usr/bin/rustc"))
            // Building the library is not stable.
            .env("RUSTC_BOOTSTRAP", "1")
            .env(
                "CARGO_TARGET_WASM32_WASIP1_LINKER",
                root.join("usr/bin/wasm-ld-22"),
            )
            .env("LD_LIBRARY_PATH", libraries(&root));
    }
    process::run(cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f")))?;
    let built = to.join(TARGET).join("release");
    let modules = stems(&built, "wasm")?.into_iter();
    let modules = modules.map(|name| (name.clone(), built.join(format!("{name}.wasm"))));
    let modules: Vec<_> = modules.filter(|(name, _)| source.join(name).is_dir()).collect();
    ensure!(!modules.is_empty(), "nothing in {}", built.display());
    Ok(modules)
}

fn home() -> Option<PathBuf> {
    let folder = |variable| std::env::var_os(variable).map(PathBuf::from);
    folder("CARGO_HOME").or_else(|| Some(folder("HOME")?.join(".cargo")))
}

fn cpp(workspace: &Workspace, source: &Path, to: &Path) -> Result<Vec<Module>> {
    let root = CLANG.root(workspace, "cpp-guests")?;
    let one = |name: String| -> Result<Module> {
        let file = to.join(format!("{name}.wasm"));
        let mut clang = Command::new(root.join("usr/lib/llvm-22/bin/clang++"));
        clang
            .current_dir(source)
            .env("LD_LIBRARY_PATH", libraries(&root))
            .args(["--target=wasm32-wasi", "-mexec-model=reactor", "-Wno-deprecated"])
            .args([
                "-std=c++20",
                "-Os",
                "-fno-exceptions",
                "-Wall",
                "-Wextra",
                "-Werror",
            ])
            // The names of functions stay: a trap is shown with them.
            .arg("-Wl,--strip-debug")
            .arg(format!("--sysroot={}", root.join("usr").display()))
            .arg(format!("-fuse-ld={}", root.join("usr/bin/wasm-ld-22").display()))
            .arg(format!("{name}.cc"))
            .arg("-o")
            .arg(&file);
        process::run(&mut clang)?;
        Ok((name, file))
    };
    stems(source, "cc")?.into_iter().map(one).collect()
}

fn assemblyscript(_: &Workspace, source: &Path, to: &Path) -> Result<Vec<Module>> {
    for tool in [NODE, NPM] {
        tool.ensure().map_err(anyhow::Error::msg)?;
    }
    for manifest in ["package.json", "package-lock.json"] {
        fs::copy(source.join(manifest), to.join(manifest))?;
    }
    let mut npm = Command::new("npm");
    npm.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]);
    process::capture(npm.current_dir(to)).context("the compiler cannot be had from npm")?;
    let compiler = to.join("node_modules/assemblyscript/bin/asc.js");
    let functions = stems(source, "ts")?.into_iter().filter(|name| name != "host");
    let one = |name: String| -> Result<Module> {
        let file = to.join(format!("{name}.wasm"));
        let mut asc = Command::new("node");
        asc.current_dir(source).arg(&compiler).arg(format!("{name}.ts"));
        asc.args(["-Oz", "--debug", "--noColors", "-o"]).arg(&file);
        process::run(&mut asc)?;
        Ok((name, file))
    };
    functions.map(one).collect()
}

fn go(_: &Workspace, source: &Path, to: &Path) -> Result<Vec<Module>> {
    ensure!(
        process::which("go").is_some(),
        "go is not installed: Go 1.24 or newer is needed, see https://go.dev/dl"
    );
    ["id_1", "id_2"]
        .into_iter()
        .map(|name| {
            let file = to.join(format!("go-{name}.wasm"));
            let mut go = Command::new("go");
            go.current_dir(source)
                .envs([("GOOS", "wasip1"), ("GOARCH", "wasm")]);
            go.args([
                "build",
                "-buildmode=c-shared",
                "-trimpath",
                "-ldflags=-s -w",
                "-o",
            ]);
            process::run(go.arg(&file).arg(format!("./{name}")))?;
            Ok((name.to_owned(), file))
        })
        .collect()
}
