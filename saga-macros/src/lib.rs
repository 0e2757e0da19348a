//! The derives of saga-core: `Event` for a domain event, `Trigger` for an enum of events that start the same step, `Emit` for an
//! enum of what a step may publish.

mod emit;

use proc_macro::TokenStream;
use proc_macro_crate::{FoundCrate, crate_name};
use proc_macro2::TokenStream as Tokens;
use quote::{format_ident, quote, quote_spanned};
use syn::{
    Data, DeriveInput, Fields, LitInt, LitStr, Path, Type,
    parse::{Parse, ParseStream},
    parse_macro_input,
    spanned::Spanned,
};

/// Implements `saga_core::Event`; see there for the attribute.
#[proc_macro_derive(Event, attributes(event))]
pub fn derive_event(input: TokenStream) -> TokenStream {
    expand_event(&parse_macro_input!(input as DeriveInput)).unwrap_or_else(|e| e.to_compile_error()).into()
}

/// Implements `saga_core::Trigger` for an enum whose variants hold one event each. What all of them have is reached without
/// looking which one it is: `#[trigger(fields(trip_id: Uuid))]` makes `fn trip_id(&self) -> &Uuid`, and `#[trigger(into =
/// InventoryReleased { trip_id, reason })]` the event that a compensation publishes, also when there was nothing to undo.
#[proc_macro_derive(Trigger, attributes(trigger))]
pub fn derive_trigger(input: TokenStream) -> TokenStream {
    expand_trigger(&parse_macro_input!(input as DeriveInput)).unwrap_or_else(|e| e.to_compile_error()).into()
}

/// Implements `saga_core::Emit` for an enum whose variants hold what a step may publish: one event each, or a tuple of
/// several that are published at once.
#[proc_macro_derive(Emit)]
pub fn derive_emit(input: TokenStream) -> TokenStream {
    emit::expand(&parse_macro_input!(input as DeriveInput), &core()).unwrap_or_else(|e| e.to_compile_error()).into()
}

/// The data of an event, with everything that it has to be: `#[saga_event(name = "trip.requested", topic = "trip.events", saga =
/// "trip_id")]` derives `Event` (see there for the attribute), `Clone`, `Debug`, `PartialEq`, serde's two and `JsonSchema`, and needs none
/// of those crates beside `saga`.
#[proc_macro_attribute]
pub fn saga_event(attribute: TokenStream, item: TokenStream) -> TokenStream {
    let (attribute, item) = (Tokens::from(attribute), Tokens::from(item));
    expand_data(&item, &quote!(#[event(#attribute)]), true).into()
}

/// A part of an event's data: derives `Clone`, `Debug`, `PartialEq`, serde's two and `JsonSchema`.
#[proc_macro_attribute]
pub fn saga_data(attribute: TokenStream, item: TokenStream) -> TokenStream {
    if !attribute.is_empty() {
        let message = "#[saga_data] takes nothing: an event is #[saga_event(name = .., topic = .., saga = ..)]";
        return syn::Error::new(proc_macro2::Span::call_site(), message).to_compile_error().into();
    }
    expand_data(&Tokens::from(item), &quote!(), false).into()
}

fn expand_data(item: &Tokens, event: &Tokens, is_event: bool) -> Tokens {
    let saga = saga();
    let (serde, schemars) = (format!("{saga}::__private::serde"), format!("{saga}::__private::schemars"));
    let (serde, schemars) = (serde.replace(' ', ""), schemars.replace(' ', ""));
    let derive_event = is_event.then(|| quote!(#[derive(#saga::Event)]));
    quote! {
        #[derive(
            ::core::clone::Clone, ::core::fmt::Debug, ::core::cmp::PartialEq,
            #saga::__private::serde::Serialize, #saga::__private::serde::Deserialize, #saga::__private::schemars::JsonSchema,
        )]
        #derive_event
        #[serde(crate = #serde)]
        #[schemars(crate = #schemars)]
        #event
        #item
    }
}

/// The path of the crate `saga`.
fn saga() -> Tokens {
    match crate_name("saga") {
        Ok(FoundCrate::Name(name)) => path(&name),
        _ => path("saga"),
    }
}

/// The path of saga-core, or of `saga`, which has all that is in it.
fn core() -> Tokens {
    match (crate_name("saga-core"), crate_name("saga")) {
        (Ok(FoundCrate::Name(name)), _) | (Err(_), Ok(FoundCrate::Name(name))) => path(&name),
        (Err(_), Ok(FoundCrate::Itself)) => path("saga"),
        _ => path("saga_core"),
    }
}

fn path(name: &str) -> Tokens {
    let name = format_ident!("{name}");
    quote!(::#name)
}

#[derive(Default)]
struct EventAttribute {
    name: Option<LitStr>,
    version: Option<LitInt>,
    topic: Option<LitStr>,
    saga: Option<LitStr>,
    validate: Option<LitStr>,
    /// Events that it is made from, field by field.
    from: Vec<Path>,
}

impl Parse for EventAttribute {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut attribute = Self::default();
        while !input.is_empty() {
            let key: syn::Ident = input.parse()?;
            if key == "from" {
                let list;
                syn::parenthesized!(list in input);
                attribute.from.extend(list.parse_terminated(Path::parse, syn::Token![,])?);
            } else {
                input.parse::<syn::Token![=]>()?;
            }
            match key.to_string().as_str() {
                "from" => {}
                "name" => attribute.name = Some(input.parse()?),
                "version" => attribute.version = Some(input.parse()?),
                "topic" => attribute.topic = Some(input.parse()?),
                "saga" => attribute.saga = Some(input.parse()?),
                "validate" => attribute.validate = Some(input.parse()?),
                _ => {
                    return Err(syn::Error::new(
                        key.span(),
                        "expected name, version, topic, saga, validate or from(..)",
                    ));
                }
            }
            if !input.is_empty() {
                input.parse::<syn::Token![,]>()?;
            }
        }
        Ok(attribute)
    }
}

fn expand_event(input: &DeriveInput) -> syn::Result<Tokens> {
    let attribute: EventAttribute = input
        .attrs
        .iter()
        .find(|a| a.path().is_ident("event"))
        .ok_or_else(|| {
            let help = "add #[event(name = \"trip.requested\", topic = \"trip.events\", saga = \"trip_id\")]";
            syn::Error::new(input.span(), help)
        })?
        .parse_args()?;
    let missing =
        |key: &str, what: &str| syn::Error::new(input.span(), format!("an event needs {key} = \"..\": {what}"));
    let name = attribute.name.ok_or_else(|| missing("name", "what happened, like \"trip.requested\""))?;
    let is_dotted = |n: &str| {
        n.contains('.')
            && n.split('.').all(|part| {
                !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
            })
    };
    if !is_dotted(&name.value()) {
        return Err(syn::Error::new(name.span(), "an event's name is dotted snake_case, like \"trip.requested\""));
    }
    let topic = attribute.topic.ok_or_else(|| missing("topic", "where it is published, like \"trip.events\""))?;
    let saga = attribute.saga.ok_or_else(|| missing("saga", "the field that holds the saga's id"))?;
    let (saga_field, saga) = (saga.value(), syn::Ident::new(&saga.value(), saga.span()));
    let version = attribute.version.map_or_else(|| quote!(1), |v| quote!(#v));
    let validate = match attribute.validate {
        None => quote!(),
        Some(path) => {
            let path: Path = path.parse()?;
            quote! {
                fn validate(&self) -> ::std::result::Result<(), ::std::string::String> { #path(self) }
            }
        }
    };
    let conversions = conversions(input, &attribute.from)?;
    let (ident, (generics, type_generics, bounds)) = (&input.ident, input.generics.split_for_impl());
    let core = core();
    Ok(quote! {
        #conversions
        impl #generics #core::Event for #ident #type_generics #bounds {
            const NAME: &'static str = #name;
            const VERSION: u32 = #version;
            const TOPIC: &'static str = #topic;
            fn saga_id(&self) -> #core::SagaId { #core::SagaId::from(self.#saga) }
            fn saga_field() -> ::std::option::Option<&'static str> { ::std::option::Option::Some(#saga_field) }
            #validate
        }
    })
}

/// Makes the event from each of these: all of its fields are taken over by their names.
fn conversions(input: &DeriveInput, events: &[Path]) -> syn::Result<Tokens> {
    let Some(first) = events.first() else { return Ok(quote!()) };
    let fields = match &input.data {
        Data::Struct(data) => match &data.fields {
            Fields::Named(fields) => Some(&fields.named),
            _ => None,
        },
        _ => None,
    };
    let fields = fields.ok_or_else(|| {
        let help = "from(..) takes fields over by their names, so the event has to be a struct with named fields";
        syn::Error::new(first.span(), help)
    })?;
    let (ident, (generics, type_generics, bounds)) = (&input.ident, input.generics.split_for_impl());
    let conversions = events.iter().map(|event| {
        let names = fields.iter().filter_map(|field| field.ident.as_ref());
        // What is missing is missing in that event: there the compiler points.
        let taken = names.map(|name| {
            let theirs = syn::Ident::new(&name.to_string(), event.span());
            quote_spanned!(event.span()=> #name: event.#theirs)
        });
        quote! {
            impl #generics ::core::convert::From<#event> for #ident #type_generics #bounds {
                fn from(event: #event) -> Self {
                    Self { #(#taken),* }
                }
            }
        }
    });
    Ok(quote!(#(#conversions)*))
}

#[derive(Default)]
struct TriggerAttribute {
    /// Fields that every event has, and their types.
    fields: Vec<(syn::Ident, Type)>,
    /// The event that it becomes, and the fields that it takes over.
    into: Option<(Path, Vec<syn::Ident>)>,
}

impl Parse for TriggerAttribute {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut attribute = Self::default();
        while !input.is_empty() {
            let key: syn::Ident = input.parse()?;
            match key.to_string().as_str() {
                "fields" => {
                    let list;
                    syn::parenthesized!(list in input);
                    while !list.is_empty() {
                        let name = list.parse()?;
                        list.parse::<syn::Token![:]>()?;
                        attribute.fields.push((name, list.parse()?));
                        if !list.is_empty() {
                            list.parse::<syn::Token![,]>()?;
                        }
                    }
                }
                "into" => {
                    input.parse::<syn::Token![=]>()?;
                    let event = input.parse()?;
                    let list;
                    syn::braced!(list in input);
                    let names = list.parse_terminated(syn::Ident::parse, syn::Token![,])?;
                    attribute.into = Some((event, names.into_iter().collect()));
                }
                _ => {
                    return Err(syn::Error::new(
                        key.span(),
                        "expected fields(name: Type, ..) or into = Event { name, .. }",
                    ));
                }
            }
            if !input.is_empty() {
                input.parse::<syn::Token![,]>()?;
            }
        }
        Ok(attribute)
    }
}

fn expand_trigger(input: &DeriveInput) -> syn::Result<Tokens> {
    let attribute = input.attrs.iter().find(|a| a.path().is_ident("trigger"));
    let attribute: TriggerAttribute = attribute.map_or_else(|| Ok(TriggerAttribute::default()), |a| a.parse_args())?;
    let Data::Enum(data) = &input.data else {
        return Err(syn::Error::new(input.span(), "a Trigger is an enum with one event per variant"));
    };
    let mut variants: Vec<(&syn::Ident, &Type)> = Vec::new();
    for variant in &data.variants {
        match &variant.fields {
            Fields::Unnamed(fields) if fields.unnamed.len() == 1 => {
                variants.push((&variant.ident, &fields.unnamed[0].ty));
            }
            _ => {
                return Err(syn::Error::new(
                    variant.span(),
                    "each variant holds exactly one event: `Rejected(InventoryRejected)`",
                ));
            }
        }
    }
    let names: Vec<_> = variants.iter().map(|(name, _)| name).collect();
    let types: Vec<_> = variants.iter().map(|(_, ty)| ty).collect();
    let (ident, (generics, type_generics, bounds)) = (&input.ident, input.generics.split_for_impl());
    let accessors = attribute.fields.iter().map(|(name, of)| {
        let doc = format!("The `{name}` of whichever event it is.");
        quote! {
            #[doc = #doc]
            pub fn #name(&self) -> &#of {
                match self { #(Self::#names(event) => &event.#name),* }
            }
        }
    });
    let accessors =
        (!attribute.fields.is_empty()).then(|| quote!(impl #generics #ident #type_generics #bounds { #(#accessors)* }));
    let into = attribute.into.as_ref().map(|(event, fields)| {
        let variants = names.iter().map(|name| quote!(#ident::#name(event) => Self { #(#fields: event.#fields),* }));
        quote! {
            impl #generics ::core::convert::From<#ident #type_generics> for #event #bounds {
                fn from(why: #ident #type_generics) -> Self {
                    match why { #(#variants),* }
                }
            }
        }
    });
    let core = core();
    Ok(quote! {
        #accessors
        #into
        impl #generics #core::Trigger for #ident #type_generics #bounds {
            fn event_types() -> ::std::vec::Vec<#core::event::EventType> {
                ::std::vec![#(#core::event::EventType::of::<#types>()),*]
            }
            fn decode(name: &str, version: u32, data: &[u8]) -> ::std::result::Result<Self, #core::event::DecodeError> {
                #(if name == <#types as #core::Event>::NAME {
                    return <#types as #core::Trigger>::decode(name, version, data).map(Self::#names);
                })*
                ::std::result::Result::Err(#core::event::DecodeError::Undecodable(
                    ::std::format!("{name} does not start this step"),
                ))
            }
            fn saga_id(&self) -> #core::SagaId {
                match self { #(Self::#names(event) => #core::Event::saga_id(event)),* }
            }
        }
    })
}
