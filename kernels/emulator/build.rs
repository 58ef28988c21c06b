//! Compiles the kernels as they stand, with g++ and the shim in front of each. With the feature `address-sanitizer` they are
//! built for it, and its library must then be preloaded: see README.md.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR").expect("set by cargo"));
    let kernels = root.parent().expect("kernels/").to_owned();
    for path in [&kernels, &root.join("shim"), &root.join("tests")] {
        println!("cargo:rerun-if-changed={}", path.display());
    }
    let out = PathBuf::from(env::var("OUT_DIR").expect("set by cargo"));
    let mut build = cc::Build::new();
    build.cpp(true).std("c++20").opt_level(2).include(root.join("shim")).include(&kernels);
    // Floats as the device takes them where the order is a contract: no contraction.
    build.flag("-ffp-contract=off").flag("-Wno-unknown-pragmas").warnings(true);
    if env::var_os("CARGO_FEATURE_ADDRESS_SANITIZER").is_some() {
        build.flag("-fsanitize=address").flag("-fno-omit-frame-pointer").debug(true);
        link_sanitizer();
    }
    build.file(root.join("shim/emulator.cpp"));
    let mut stems = Vec::new();
    for folder in [kernels, root.join("tests")] {
        for path in sources(&folder) {
            let stem = path.file_stem().expect("a file").to_string_lossy().into_owned();
            build.file(wrapper(&out, &path, &stem));
            stems.push(stem);
        }
    }
    build.file(anchor(&out, &stems));
    build.compile("nearkin_emulator");
    println!("cargo:rustc-link-lib=stdc++");
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(folder).expect("the folder of kernels");
    let mut found: Vec<PathBuf> = all.map(|entry| entry.expect("readable").path()).collect();
    found.retain(|path| path.extension().is_some_and(|extension| extension == "cu"));
    found.sort();
    found
}

/// A file that includes the shim and all headers, then the kernel; its one function keeps the linker from dropping it. The
/// kernel stands in a namespace without a name, since the sanitizer watches no variables that several files may share.
fn wrapper(out: &Path, kernel: &Path, stem: &str) -> PathBuf {
    let path = out.join(format!("{stem}.cpp"));
    let text = format!(
        "#include \"shim.h\"\n#include <cuda_fp16.h>\n#include <cuda_pipeline.h>\nnamespace {{\n#include \"{}\"\n}}\n\
         extern \"C\" void nearkin_anchor_{stem}() {{}}\n",
        kernel.display()
    );
    fs::write(&path, text).expect("the output folder can be written");
    path
}

/// A function that names every wrapper's.
fn anchor(out: &Path, stems: &[String]) -> PathBuf {
    let declared: String =
        stems.iter().map(|stem| format!("extern \"C\" void nearkin_anchor_{stem}();\n")).collect();
    let called: String = stems.iter().map(|stem| format!("nearkin_anchor_{stem}();")).collect();
    let path = out.join("anchor.cpp");
    let text = format!("{declared}extern \"C\" void nearkin_emulator_anchor() {{ {called} }}\n");
    fs::write(&path, text).expect("the output folder can be written");
    path
}

/// The folder of the sanitizer's library, and the library itself.
fn link_sanitizer() {
    let asked = Command::new("g++").arg("-print-file-name=libasan.so").output();
    let path = String::from_utf8(asked.expect("g++ runs").stdout).expect("a path");
    let folder = Path::new(path.trim()).parent().expect("a file in a folder").display().to_string();
    println!("cargo:rustc-link-search=native={folder}");
    println!("cargo:rustc-link-lib=dylib=asan");
}
