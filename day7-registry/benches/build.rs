//! The gRPC service of the benchmark. tonic's own tool reads `.proto` files and needs `protoc` to be installed;
//! this makes the same code from a description in Rust.

use tonic_build::manual::{Builder, Method, Service};

fn main() {
    let method = |name: &str, route: &str| {
        Method::builder()
            .name(name)
            .route_name(route)
            .input_type(format!("crate::peers::tonic::{route}Request"))
            .output_type(format!("crate::peers::tonic::{route}Reply"))
            .codec_path("tonic_prost::ProstCodec")
            .build()
    };
    let arith = Service::builder()
        .name("Arith")
        .package("bench")
        .method(method("sum", "Sum"))
        .method(method("echo", "Echo"))
        .build();
    Builder::new().compile(&[arith]);
    println!("cargo::rerun-if-changed=build.rs");
}
