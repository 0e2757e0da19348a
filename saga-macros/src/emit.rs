//! The derive `Emit`: an enum of what a step may publish, one of its variants in each run.

use proc_macro2::TokenStream as Tokens;
use quote::{quote, quote_spanned};
use syn::{Data, DeriveInput, Fields, Type, spanned::Spanned};

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
    // What is no event is no event in its variant: there the compiler points.
    let alternatives = variants.iter().map(|(_, ty)| {
        let emits = quote_spanned!(ty.span()=> <#ty as #core::handler::Emit>::emits());
        quote!(let emits = #core::graph::Emits::or(emits, #emits);)
    });
    let arms = variants.iter().map(|(name, ty)| {
        let emit = quote_spanned!(ty.span()=> #core::handler::Emit::emit(published, events));
        quote!(Self::#name(published) => #emit)
    });
    Ok(quote! {
        impl #generics #core::handler::Emit for #ident #type_generics #bounds {
            fn emits() -> #core::graph::Emits {
                let emits = #core::graph::Emits::nothing();
                #(#alternatives)*
                emits
            }
            fn emit(
                &self,
                events: &mut ::std::vec::Vec<#core::handler::Emitted>,
            ) -> ::std::result::Result<(), #core::StepError> {
                match self { #(#arms),* }
            }
        }
    })
}
