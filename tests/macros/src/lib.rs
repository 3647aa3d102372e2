//! `#[test]`, as the integration tests have it: the function goes into a list, from which `presocks_tests::harness`
//! runs it. The compiler's own attribute hands it to libtest, which cannot learn while it runs that a test is ignored.

use proc_macro::{TokenStream, TokenTree};

/// Puts the function that follows, which takes nothing and returns nothing, into `presocks_tests::harness::TESTS`.
#[proc_macro_attribute]
pub fn test(_options: TokenStream, function: TokenStream) -> TokenStream {
    let is_fn = |token: &TokenTree| matches!(token, TokenTree::Ident(word) if word.to_string() == "fn");
    let name = function.clone().into_iter().skip_while(|token| !is_fn(token)).nth(1);
    let listed = match name {
        Some(TokenTree::Ident(name)) => format!(
            "const _: () = {{
                #[::presocks_tests::harness::distributed_slice(::presocks_tests::harness::TESTS)]
                #[linkme(crate = ::presocks_tests::harness::linkme)]
                static TEST: ::presocks_tests::harness::Test = ::presocks_tests::harness::Test {{
                    module: module_path!(),
                    name: \"{name}\",
                    run: {name},
                }};
            }};"
        ),
        _ => "compile_error!(\"only a function can be a test\");".to_owned(),
    };
    function.into_iter().chain(listed.parse::<TokenStream>().into_iter().flatten()).collect()
}
