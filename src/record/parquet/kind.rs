//! What the columns of a file hold, as far as records need it.

use parquet::basic::{ConvertedType, LogicalType, Repetition, Type as PhysicalType};
use parquet::schema::types::{SchemaDescriptor, Type};

use super::text::is_text;

/// First column of the column called `name`, which is not looked for inside others, and what it
/// holds.
pub(super) fn find(schema: &SchemaDescriptor, name: &str) -> Option<(usize, Kind)> {
    let fields = schema.root_schema().get_fields();
    let root = fields.iter().position(|field| field.name() == name)?;
    let leaf = (0..schema.num_columns()).find(|&leaf| schema.get_column_root_idx(leaf) == root);
    Some((leaf.unwrap_or(0), Kind::of(&fields[root])))
}

/// What a column holds, as far as records need it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Text,
    Bool,
    Int {
        bits: i32,
        signed: bool,
    },
    Float {
        bits: i32,
    },
    Decimal {
        scale: i32,
    },
    /// Days, or units since midnight or 1970: a number to rank by, but not an id.
    Time(&'static str),
    Other(String),
}

impl Kind {
    fn of(field: &Type) -> Self {
        let info = field.get_basic_info();
        if info.has_repetition() && info.repetition() == Repetition::REPEATED {
            return Self::Other("List".to_owned());
        }
        Self::of_values(field)
    }

    /// What the values of `field` are, be it repeated or not.
    pub fn of_values(field: &Type) -> Self {
        let info = field.get_basic_info();
        let logical = info.logical_type_ref();
        let converted = info.converted_type();
        let Type::PrimitiveType { physical_type, type_length, scale, precision, .. } = field else {
            return Self::Other(group_name(logical, converted).to_owned());
        };
        if logical.is_some_and(|logical| matches!(logical, LogicalType::Decimal(_)))
            || converted == ConvertedType::DECIMAL
        {
            return match physical_type {
                PhysicalType::FIXED_LEN_BYTE_ARRAY | PhysicalType::BYTE_ARRAY
                    if *precision > 38 =>
                {
                    Self::Other(format!("Decimal256({precision}, {scale})"))
                }
                _ => Self::Decimal { scale: *scale },
            };
        }
        match physical_type {
            PhysicalType::BOOLEAN => Self::Bool,
            PhysicalType::INT32 => integer(logical, converted, 32),
            PhysicalType::INT64 => integer(logical, converted, 64),
            PhysicalType::INT96 => Self::Other("Int96".to_owned()),
            PhysicalType::FLOAT => Self::Float { bits: 32 },
            PhysicalType::DOUBLE => Self::Float { bits: 64 },
            PhysicalType::BYTE_ARRAY if is_text(info) => Self::Text,
            PhysicalType::BYTE_ARRAY => Self::Other("Binary".to_owned()),
            PhysicalType::FIXED_LEN_BYTE_ARRAY => {
                Self::Other(format!("FixedSizeBinary({type_length})"))
            }
        }
    }

    /// Name of the type as Arrow has it.
    pub fn name(&self) -> String {
        match self {
            Self::Text => "Utf8".to_owned(),
            Self::Bool => "Boolean".to_owned(),
            Self::Int { bits, signed: true } => format!("Int{bits}"),
            Self::Int { bits, signed: false } => format!("UInt{bits}"),
            Self::Float { bits } => format!("Float{bits}"),
            Self::Decimal { .. } => "Decimal".to_owned(),
            Self::Time(name) => (*name).to_owned(),
            Self::Other(name) => name.clone(),
        }
    }

    /// Whether its values are strings.
    pub fn is_text(&self) -> bool {
        *self == Self::Text
    }

    /// Whether its values are JSON tokens that can name a record.
    pub fn is_token(&self) -> bool {
        matches!(self, Self::Text | Self::Bool | Self::Int { .. } | Self::Float { .. })
    }

    /// Whether its values can be ranked by.
    pub fn is_number(&self) -> bool {
        let is_number = matches!(self, Self::Int { .. } | Self::Float { .. });
        is_number || matches!(self, Self::Decimal { .. } | Self::Time(_))
    }
}

fn group_name(logical: Option<&LogicalType>, converted: ConvertedType) -> &'static str {
    match (logical, converted) {
        (Some(LogicalType::List), _) | (_, ConvertedType::LIST) => "List",
        (Some(LogicalType::Map), _) => "Map",
        (_, ConvertedType::MAP | ConvertedType::MAP_KEY_VALUE) => "Map",
        _ => "Struct",
    }
}

fn integer(logical: Option<&LogicalType>, converted: ConvertedType, bits: i32) -> Kind {
    let unsigned = |bits| Kind::Int { bits, signed: false };
    let signed = |bits| Kind::Int { bits, signed: true };
    match (logical, converted) {
        (Some(LogicalType::Integer(int)), _) => {
            Kind::Int { bits: int.bit_width.into(), signed: int.is_signed }
        }
        (Some(LogicalType::Date), _) | (_, ConvertedType::DATE) => Kind::Time("Date32"),
        (Some(LogicalType::Time(_)), _) => Kind::Time("Time"),
        (_, ConvertedType::TIME_MILLIS | ConvertedType::TIME_MICROS) => Kind::Time("Time"),
        (Some(LogicalType::Timestamp(_)), _) => Kind::Time("Timestamp"),
        (_, ConvertedType::TIMESTAMP_MILLIS | ConvertedType::TIMESTAMP_MICROS) => {
            Kind::Time("Timestamp")
        }
        (Some(LogicalType::Unknown), _) => Kind::Other("Null".to_owned()),
        (_, ConvertedType::UINT_8) => unsigned(8),
        (_, ConvertedType::UINT_16) => unsigned(16),
        (_, ConvertedType::UINT_32) => unsigned(32),
        (_, ConvertedType::UINT_64) => unsigned(64),
        (_, ConvertedType::INT_8) => signed(8),
        (_, ConvertedType::INT_16) => signed(16),
        _ => signed(bits),
    }
}
