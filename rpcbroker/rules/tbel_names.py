"""All names that a TBEL script may use, each with what it is for: the manual shows these tables.

`tbel.js` has each function, constructor and class as a member of `$`, and each method `m` as `$m` in the prototypes of
what has it.
"""

from __future__ import annotations

FUNCTIONS = {
    "atob": "text of Base64",
    "btoa": "Base64 of text",
    "base64ToBytes": "bytes of Base64",
    "base64ToHex": "hexadecimal digits of Base64",
    "bytesToBase64": "Base64 of bytes",
    "bytesToExecutionArrayList": "the same bytes, as a list",
    "bytesToHex": "upper-case hexadecimal digits of bytes",
    "bytesToString": "text of bytes: UTF-8, or US-ASCII, ISO-8859-1 (second argument)",
    "byteArrayToExecutionArrayList": "the same bytes, as a list",
    "decodeToJson": "value of JSON, given as text or bytes",
    "decodeToString": "text of bytes",
    "decodeURI": "text of what encodeURI made",
    "doubleToHex": "0x and 16 digits; false as second argument: little-endian",
    "encodeURI": "text with all that is special in URIs escaped",
    "floatToHex": "0x and 8 digits; false as second argument: little-endian",
    "hexToBytes": "bytes of hexadecimal digits, with 0x or not",
    "intLongToRadixString": "text of a whole number: radix 10, or 2, 8, 16, 25 to 36; big-endian; with 0x",
    "intLongToString": "as intLongToRadixString",
    "intToHex": "hexadecimal digits: big-endian, with 0x, length (2nd to 4th argument)",
    "isBinary": "2 if text has binary digits only, otherwise -1",
    "isDecimal": "10 if text is a decimal number, otherwise -1",
    "isHexadecimal": "16 if text is a hexadecimal number, otherwise -1",
    "isOctal": "8 if text has octal digits only, otherwise -1",
    "isList": "whether it is a list",
    "isMap": "whether it is a map",
    "isNaN": "whether it is no number",
    "isSet": "whether it is a set",
    "longToHex": "as intToHex, of 64 bits",
    "newSet": "an empty set",
    "padEnd": "text made longer at its end: length, with which character",
    "padStart": "text made longer at its start: length, with which character",
    "parseBigEndianHexToDouble": "number of the 16 digits of a double",
    "parseBigEndianHexToFloat": "number of the 8 digits of a float",
    "parseBigEndianHexToInt": "signed number of hexadecimal digits",
    "parseBigEndianHexToLong": "signed number of hexadecimal digits",
    "parseBytesIntToFloat": "whole number in bytes: offset, length up to 4, big-endian",
    "parseBytesLongToDouble": "unsigned whole number in bytes: offset, length up to 8, big-endian",
    "parseBytesToDouble": "double in bytes: offset, length, big-endian",
    "parseBytesToFloat": "float in bytes: offset, length, big-endian",
    "parseBytesToInt": "whole number in bytes: offset, length up to 4, big-endian",
    "parseBytesToLong": "whole number in bytes: offset, length up to 8, big-endian",
    "parseDouble": "number of text",
    "parseFloat": "number of text; null for blank text",
    "parseHexIntLongToFloat": "whole number of hexadecimal digits; big-endian",
    "parseHexToDouble": "number of the 16 digits of a double; false: little-endian",
    "parseHexToFloat": "number of the 8 digits of a float; false: little-endian",
    "parseHexToInt": "signed number of hexadecimal digits; false: little-endian",
    "parseHexToLong": "signed number of hexadecimal digits; false: little-endian",
    "parseInt": "whole number of text: decimal or hexadecimal, or as the radix says; null for blank text",
    "parseLittleEndianHexToDouble": "number of the 16 digits of a double, the last byte first",
    "parseLittleEndianHexToFloat": "number of the 8 digits of a float, the last byte first",
    "parseLittleEndianHexToInt": "signed number of hexadecimal digits, the last byte first",
    "parseLittleEndianHexToLong": "signed number of hexadecimal digits, the last byte first",
    "parseLong": "as parseInt, of 64 bits",
    "parseBinaryArray": "bits of a list as a number: offset, length, big-endian",
    "parseBinaryArrayToInt": "as parseBinaryArray",
    "parseByteToBinaryArray": "list of the bits of a byte: how many, big-endian",
    "parseBytesToBinaryArray": "list of the bits of bytes: how many, big-endian",
    "parseLongToBinaryArray": "list of the bits of a number: how many, big-endian",
    "printUnsignedBytes": "bytes as numbers from 0 to 255",
    "raiseError": "fail with a text",
    "stringToBytes": "bytes of text: UTF-8, or US-ASCII, ISO-8859-1 (second argument)",
    "toFixed": "number rounded half up to so many decimals",
    "toFlatMap": "map of all that is in a map, by dotted names: names left out, whether with the path",
    "toInt": "number rounded half up to a whole one",
    "toList": "list of the members of a set",
    "toSet": "set of the members of a list",
}

_MATH = (
    "abs acos asin atan atan2 cbrt ceil cos cosh exp expm1 floor floorDiv floorMod hypot log log10 log1p max min pow "
    "random rint round signum sin sinh sqrt tan tanh toDegrees toRadians E PI"
)
_INTEGER = "parseInt valueOf toString toHexString toBinaryString toOctalString compare MAX_VALUE MIN_VALUE"
_DOUBLE = "parseDouble parseFloat valueOf toString compare isNaN MAX_VALUE"
STATICS: dict[str, frozenset[str]] = {
    name: frozenset(members.split())
    for name, members in {
        "Math": _MATH,
        "JSON": "parse stringify",
        "Integer": _INTEGER,
        "Long": _INTEGER.replace("parseInt", "parseLong"),
        "Short": _INTEGER.replace("parseInt", "parseShort"),
        "Byte": "toUnsignedInt valueOf",
        "Double": _DOUBLE,
        "Float": _DOUBLE,
        "Boolean": "parseBoolean valueOf",
        "String": "valueOf format join",
        "Date": "now parse UTC",
        "System": "currentTimeMillis",
        "Arrays": "asList",
        "Collections": "sort reverse max min emptyList emptyMap",
        "Objects": "equals isNull nonNull",
        "UUID": "randomUUID",
    }.items()
}
"""Members of classes: the class is named before them, with `java.lang.` or `java.util.` or without."""

CLASSES = {
    "ArrayList": "list",
    "LinkedList": "list",
    "Date": "moment: nothing (now), epoch ms, text, or year, month (0 is January), day, hour, minute, second, ms; UTC",
    "HashMap": "map",
    "LinkedHashMap": "map",
    "TreeMap": "map",
    "HashSet": "set",
    "LinkedHashSet": "set",
    "TreeSet": "set",
    "String": "text",
    "StringBuilder": "text that grows by append",
}
"""What `new` makes."""

TYPES = frozenset(
    "int long double float boolean byte char short Object String Integer Long Double Float Boolean Byte List Map Set "
    "ArrayList HashMap LinkedHashMap HashSet Date".split()
)
"""They may stand before a variable; that it is of this type is not verified."""

METHODS = frozenset(
    # of all
    "equals toString hashCode compareTo "
    # of text
    "length isEmpty isBlank charAt codePointAt concat contains endsWith equalsIgnoreCase getBytes indexOf lastIndexOf "
    "matches padEnd padStart repeat replace replaceAll replaceFirst split startsWith strip substring toCharArray "
    "toLowerCase toUpperCase trim append reverse "
    # of numbers
    "byteValue doubleValue floatValue intValue longValue shortValue isNaN toFixed "
    # of lists and sets
    "add addAll clear containsAll fill get includes join pop push remove removeAll retainAll set shift size slice sort "
    "splice subList toArray toReversed toSorted toSpliced unshift with addFirst addLast getFirst getLast copy "
    # of maps
    "containsKey containsValue entrySet getKey getOrDefault getValue invert keySet keys put putAll putIfAbsent "
    "sortByKey sortByValue values "
    # of moments
    "getDate getDay getFullYear getHours getMilliseconds getMinutes getMonth getSeconds getTime getTimezoneOffset "
    "getUTCDate getUTCDay getUTCFullYear getUTCHours getUTCMilliseconds getUTCMinutes getUTCMonth getUTCSeconds "
    "setDate setFullYear setHours setMilliseconds setMinutes setMonth setSeconds setTime setUTCDate setUTCFullYear "
    "setUTCHours setUTCMilliseconds setUTCMinutes setUTCMonth setUTCSeconds toISOString toJSON valueOf".split()
)
"""What may be called of a value. They mean what Java's mean."""
