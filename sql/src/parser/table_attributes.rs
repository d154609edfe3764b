//! The attributes after the columns of CREATE TABLE, in any order, and ENCODE.

use datafusion::sql::sqlparser::tokenizer::Token;

use super::tokens::Tokens;
use crate::error::{Error, ErrorKind, Result};
use crate::statement::{DistStyle, Encoding, SortKey, TableAttributes};

/// Reads attributes until none follows.
pub(super) fn table_attributes(tokens: &mut Tokens<'_>) -> Result<TableAttributes> {
    let mut attributes = TableAttributes::default();
    loop {
        if tokens.take_word("diststyle") {
            let style = dist_style(tokens)?;
            once("DISTSTYLE", attributes.dist_style.replace(style).is_some())?;
        } else if tokens.take_word("distkey") {
            let key = single_name(tokens)?;
            once("DISTKEY", attributes.dist_key.replace(key).is_some())?;
        } else if let Some(sort_key) = sort_key(tokens)? {
            once("SORTKEY", attributes.sort_key != SortKey::Auto)?;
            attributes.sort_key = sort_key;
        } else if tokens.take_word("backup") {
            let backup = match tokens.word()?.as_str() {
                "yes" => true,
                "no" => false,
                _ => return Err(tokens.unexpected_previous()),
            };
            once("BACKUP", attributes.backup.replace(backup).is_some())?;
        } else if tokens.take_words(&["encode", "auto"]) {
            attributes.encode_auto = true;
        } else {
            break;
        }
    }
    if attributes.dist_key.is_some() && attributes.dist_style.is_none() {
        attributes.dist_style = Some(DistStyle::Key);
    }
    Ok(attributes)
}

fn once(name: &str, repeated: bool) -> Result<()> {
    if repeated {
        return Err(Error::new(
            ErrorKind::InvalidTableDefinition,
            format!("{name} is specified more than once"),
        ));
    }
    Ok(())
}

/// The word after DISTSTYLE.
pub(super) fn dist_style(tokens: &mut Tokens<'_>) -> Result<DistStyle> {
    match tokens.word()?.as_str() {
        "auto" => Ok(DistStyle::Auto),
        "even" => Ok(DistStyle::Even),
        "key" => Ok(DistStyle::Key),
        "all" => Ok(DistStyle::All),
        _ => Err(tokens.unexpected_previous()),
    }
}

fn single_name(tokens: &mut Tokens<'_>) -> Result<String> {
    tokens.expect(&Token::LParen)?;
    let name = tokens.name()?;
    tokens.expect(&Token::RParen)?;
    Ok(name)
}

/// SORTKEY in one of its forms, if it follows.
pub(super) fn sort_key(tokens: &mut Tokens<'_>) -> Result<Option<SortKey>> {
    if tokens.take_words(&["sortkey", "auto"]) {
        return Ok(Some(SortKey::Auto));
    }
    if tokens.take_words(&["interleaved", "sortkey"]) {
        return Ok(Some(SortKey::Interleaved(tokens.name_list()?)));
    }
    if tokens.take_words(&["compound", "sortkey"]) || tokens.take_word("sortkey") {
        return Ok(Some(SortKey::Compound(tokens.name_list()?)));
    }
    Ok(None)
}

/// The name after ENCODE; AUTO is no encoding.
pub(super) fn encoding(tokens: &mut Tokens<'_>) -> Result<Option<Encoding>> {
    Ok(Some(match tokens.word()?.as_str() {
        "auto" => return Ok(None),
        "raw" => Encoding::Raw,
        "az64" => Encoding::Az64,
        "bytedict" => Encoding::Bytedict,
        "delta" => Encoding::Delta,
        "delta32k" => Encoding::Delta32k,
        "lzo" => Encoding::Lzo,
        "mostly8" => Encoding::Mostly8,
        "mostly16" => Encoding::Mostly16,
        "mostly32" => Encoding::Mostly32,
        "runlength" => Encoding::RunLength,
        "text255" => Encoding::Text255,
        "text32k" => Encoding::Text32k,
        "zstd" => Encoding::Zstd,
        other => {
            return Err(Error::new(
                ErrorKind::InvalidParameterValue,
                format!("invalid encoding type specified: \"{other}\""),
            ));
        }
    }))
}
