//! The derive `Emit`: an enum of what a step may publish, one of its variants in each run.

use proc_macro2::{Span, TokenStream as Tokens};
use quote::quote;
use syn::{Data, DeriveInput, Fields, Type, parse_quote, parse_quote_spanned, spanned::Spanned};

/// The same tokens at this place, where the compiler then points.
fn at(tokens: &Tokens, span: Span) -> Tokens {
    let moved = tokens.clone().into_iter().map(|mut token| {
        token.set_span(span);
        token
    });
    moved.collect()
}

pub(crate) fn expand(input: &DeriveInput, core: &Tokens) -> syn::Result<Tokens> {
    let Data::Enum(data) = &input.data else {
        let help =
            "an Emit is an enum with what is published in each variant: several events at once are a tuple, `(A, B)`";
        return Err(syn::Error::new(input.span(), help));
    };
    if data.variants.is_empty() {
        let help = "an Emit has at least one variant: a step that publishes nothing returns `StepResult<Never>`";
        return Err(syn::Error::new(input.span(), help));
    }
    let mut variants: Vec<(&syn::Ident, &Type)> = Vec::new();
    for variant in &data.variants {
        let help = match &variant.fields {
            Fields::Unnamed(fields) if fields.unnamed.len() == 1 => {
                variants.push((&variant.ident, &fields.unnamed[0].ty));
                continue;
            }
            Fields::Unnamed(fields) if fields.unnamed.len() > 1 => {
                "each variant holds one thing: several events at once are a tuple, `Both((FlightWanted, HotelWanted))`"
            }
            Fields::Unit => {
                "each variant holds what is published: `Booked(TripBooked)`; to publish nothing, return `Outcome::Quiet`"
            }
            _ => "each variant holds one event, without a name: `Booked(TripBooked)`",
        };
        return Err(syn::Error::new(variant.span(), help));
    }
    let (ident, (generics, type_generics, bounds)) = (&input.ident, input.generics.split_for_impl());
    let (names, types): (Vec<_>, Vec<_>) = variants.into_iter().unzip();
    // What is no event is said once, and there: the bodies take the bounds as given.
    let mut bounds = bounds.cloned().unwrap_or_else(|| parse_quote!(where));
    for ty in &types {
        let core = at(core, ty.span());
        bounds.predicates.push(parse_quote_spanned!(ty.span()=> #ty: #core::handler::Emit));
    }
    Ok(quote! {
        impl #generics #core::handler::Emit for #ident #type_generics #bounds {
            fn emits() -> #core::graph::Emits {
                #core::graph::Emits::nothing()#(.or(<#types as #core::handler::Emit>::emits()))*
            }
            fn emit(
                &self,
                events: &mut ::std::vec::Vec<#core::handler::Emitted>,
            ) -> ::std::result::Result<(), #core::StepError> {
                match self { #(Self::#names(published) => #core::handler::Emit::emit(published, events)),* }
            }
        }
    })
}
