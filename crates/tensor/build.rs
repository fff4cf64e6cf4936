//! Compiles `cpp/` against the libtorch that torch-sys found.

use std::path::Path;

fn main() {
    println!("cargo:rerun-if-changed=cpp");
    // torch-sys declares `links = "tch"` and passes the folder of libtorch's libraries on.
    let Ok(lib) = std::env::var("DEP_TCH_LIBTORCH_LIB") else {
        println!("cargo:warning=torch-sys named no libtorch; run `cargo xtask setup` first");
        return;
    };
    let lib = Path::new(&lib);
    let root = lib.parent().unwrap_or(lib);
    let include = root.join("include");

    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++17")
        .warnings(false)
        // It only forwards calls to libtorch. Optimization would not make it faster, but double its
        // compile time.
        .opt_level(0)
        .debug(false)
        .include(&include)
        .include(include.join("torch/csrc/api/include"))
        .include("cpp") // Gloo's names, which libtorch does not declare
        .file("cpp/all.cpp");
    let x86 = std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "x86_64");
    if x86 {
        build.define("PORTOLAN_X86", None);
    }

    // The CUDA part needs libtorch's CUDA library and CUDA's own headers, which `setup --cuda`
    // fetches.
    let cuda = lib.join("libtorch_cuda.so");
    // Watch the folder, not the file: an absent file would count as changed at every build.
    println!("cargo:rerun-if-changed={}", lib.display());
    if cuda.exists() {
        build.define("PORTOLAN_CUDA", None).include(root.join("cuda/include"));
    }
    build.compile("portolan");
    loops("portolan_loops_any", &[]);
    if x86 {
        loops("portolan_loops_avx2", &["-mavx2", "-mfma"]);
        loops("portolan_loops_avx512", &["-mavx512f", "-mfma"]);
    }

    // Link them after our own object file, which needs their symbols.
    println!("cargo:rustc-link-search=native={}", lib.display());
    for library in ["torch_cpu", "c10"] {
        println!("cargo:rustc-link-lib={library}");
    }
    if cuda.exists() {
        println!("cargo:rustc-link-lib=torch_cuda");
        println!("cargo:rustc-link-lib=c10_cuda");
    }
}

/// Compiles the loops of batch norm and GELU for an instruction set, optimized in every profile,
/// since training waits for them.
fn loops(name: &str, flags: &[&str]) {
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").opt_level(3).warnings(false).flag_if_supported("-Wno-psabi");
    for flag in flags {
        build.flag(flag);
    }
    build.define("LOOPS", name).file("cpp/loops.cpp").compile(name);
}
