// What TBEL scripts stand on, in JavaScript: see tbel_names.py for what each is for. One closure, and so one file: what
// is outside of it scripts could reach.
//
// Lists are arrays, maps are plain objects, sets are arrays that take each member once, bytes are numbers from -128 to
// 127. Functions and classes are members of $. Methods stand in the prototypes under their names with a $ before, so
// that no key of a map hides one.
(function () {
    'use strict';
    const hide = (where, what) => {
        for (const name of Object.keys(what)) {
            Object.defineProperty(where, '$' + name, { value: what[name] });
        }
    };
    const refuse = (text) => { throw new Error(text); };
    const hasOwn = Object.prototype.hasOwnProperty;
    const own = (map, key) => hasOwn.call(map, key);
    const isMap = (value) => value !== null && typeof value === 'object' && !Array.isArray(value) &&
        !(value instanceof Date) && !(value instanceof Builder);
    const put = (map, key, value) => {
        Object.defineProperty(map, key, { value, writable: true, enumerable: true, configurable: true });
    };
    const same = (a, b) => {
        if (a === b || (a == null && b == null)) { return true; }
        if (a === null || b === null || typeof a !== 'object' || typeof b !== 'object') { return false; }
        if (Array.isArray(a) !== Array.isArray(b)) { return false; }
        const keys = Object.keys(a);
        return keys.length === Object.keys(b).length && keys.every((key) => own(b, key) && same(a[key], b[key]));
    };
    const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
    const sorted = (list, ascending) => {
        list.sort(typeof ascending === 'function' ? ascending : compare);
        if (ascending === false) { list.reverse(); }
        return list;
    };
    const show = (value) => (value instanceof Builder ? value.text :
        value !== null && typeof value === 'object' && !(value instanceof Date) ? JSON.stringify(value) : String(value));

    class Unique extends Array {
        static of(members) {
            const made = new Unique();
            for (const each of members) { made.$add(each); }
            return made;
        }
        static get [Symbol.species]() { return Array; }
    }
    class Builder {
        constructor(text) { this.text = text; }
        toString() { return this.text; }
        toJSON() { return this.text; }
    }
    class Entry {
        constructor(key, value) { this.key = key; this.value = value; }
    }

    // -- bytes and numbers

    const byte = (value) => {
        const number = typeof value === 'string' ? parseInt_(value) : value;
        if (!Number.isInteger(number) || number < -128 || number > 255) { refuse(`${show(value)} is no byte`); }
        return number << 24 >> 24;
    };
    const unsigned = (list) => list.map((each) => byte(each) & 255);
    const view = (list, offset, length, most, bigEndian) => {
        offset = offset ?? 0;
        length = length ?? Math.min(list.length - offset, most);
        if (offset < 0 || length < 0 || offset + length > list.length) {
            refuse(`offset ${offset} and length ${length} are beyond the ${list.length} bytes`);
        }
        if (length > most) { refuse(`${length} bytes are too many, ${most} are the most`); }
        const part = unsigned(Array.from(list.slice(offset, offset + length)));
        if (bigEndian === false) { part.reverse(); }
        return part;
    };
    const buffer = (bytes, size, atEnd) => {
        const made = new DataView(new ArrayBuffer(size));
        bytes.forEach((each, index) => made.setUint8(atEnd ? size - bytes.length + index : index, each));
        return made;
    };
    const single = (value) => {
        // The shortest number that is this float, as Java writes it.
        for (let digits = 6; digits < 10 && Number.isFinite(value); digits++) {
            const short = Number(value.toPrecision(digits));
            if (Math.fround(short) === value) { return short; }
        }
        return value;
    };
    const real = (value) => (Number.isNaN(value) ? refuse('the bytes are not a number') : value);
    // Where bytes are fewer than the number has, and the last comes first, Java fills up behind them: so do we.
    const filled = (list, offset, length, size, bigEndian) => {
        const part = view(list, offset, length, size, true);
        if (bigEndian === false) { part.push(...Array(size - part.length).fill(0)); part.reverse(); }
        return buffer(part, size, true);
    };
    const digits = (text, bigEndian) => {
        let hex = String(text).trim().replace(/0x/gi, '');
        if (!/^[0-9a-fA-F]+$/.test(hex) || hex.length % 2) {
            refuse(`"${text}" is not an even number of hexadecimal digits`);
        }
        return bigEndian === false ? hex.match(/../g).reverse().join('') : hex.toLowerCase();
    };
    const bytesOf = (hex) => hex.match(/../g).map((each) => parseInt(each, 16));
    const blank = (text) => text === null || text === undefined || !String(text).trim();
    const isDecimal = (text) => /^-?\d+(\.\d+)?$/.test(text);
    const isHexadecimal = (text) => /^-?(0[xX])?[0-9a-fA-F]+$/.test(text);
    const integer = (text, radix, bits, bigEndian) => {
        if (blank(text)) { return null; }
        if (typeof text === 'number') { text = String(Math.trunc(text)); }
        const given = text.trim();
        let body = given.replace(/0x/gi, '').replace(',', '.');
        if (bigEndian === false) { body = digits(body, false); }
        if (!radix) { radix = /^-?0x/i.test(given) || !isDecimal(body) ? 16 : 10; }
        const allowed = '0123456789abcdefghijklmnopqrstuvwxyz'.slice(0, radix);
        if (!body || !new RegExp(`^-?[${allowed}]+$`, 'i').test(body)) {
            refuse(`"${given}" is not a whole number of radix ${radix}`);
        }
        if (radix === 16 && body.replace('-', '').length % 2) { refuse(`"${given}" has an odd number of digits`); }
        let value = 0n;
        for (const each of body.replace('-', '').toLowerCase()) {
            value = value * BigInt(radix) + BigInt(allowed.indexOf(each));
        }
        if (radix === 2) { value = BigInt.asIntN(bits, value); }
        if (body[0] === '-') { value = -value; }
        if (BigInt.asIntN(bits, value) !== value) { refuse(`"${given}" is beyond ${bits} bits`); }
        return Number(value);
    };
    const parseInt_ = (text, radix) => integer(text, radix, 32);
    const number = (text) => {
        if (blank(text)) { return null; }
        if (typeof text === 'number') { return text; }
        const body = text.trim().replace(',', '.');
        if (!/^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(body)) { refuse(`"${text}" is not a number`); }
        return Number(body);
    };
    const hexToFloat = (text, bigEndian) =>
        single(real(buffer(bytesOf(digits(text, bigEndian)), 4, true).getFloat32(0)));
    const hexToDouble = (text, bigEndian) => real(buffer(bytesOf(digits(text, bigEndian)), 8, true).getFloat64(0));
    const hexToInt = (text, bigEndian) => integer(text, 16, 32, bigEndian);
    const hexToLong = (text, bigEndian) => integer(text, 16, 64, bigEndian);
    const toHex = (value, most, bigEndian, prefix, length) => {
        let hex = BigInt.asUintN(64, BigInt(Math.trunc(value))).toString(16).toUpperCase();
        if (value >= 0) {
            hex = (hex.length % 2 ? '0' : '') + hex;
        } else {
            hex = hex.replace(/^F+(?!$)/, '');
            hex = (hex.length % 2 ? 'F' : '') + hex;
            hex = hex.length < most ? 'FF' + hex : hex.slice(-most);
        }
        if (bigEndian === false) { hex = hex.match(/../g).reverse().join(''); }
        if (length !== undefined && length >= 0) { hex = hex.slice(Math.max(0, hex.length - length)); }
        return (prefix ? '0x' : '') + hex;
    };
    const hexOf = (bytes) =>
        unsigned(Array.from(bytes)).map((each) => each.toString(16).padStart(2, '0')).join('').toUpperCase();
    const inRadix = (value, radix, bigEndian, prefix) => {
        radix = radix ?? 10;
        if (radix === 16) { return toHex(value, 16, bigEndian, prefix); }
        if (radix === 10 || radix >= 25) { return value.toString(radix); }
        const text = BigInt.asUintN(64, BigInt(value)).toString(radix);
        const size = [8, 16, 32, 64].find((each) => text.length <= each);
        return radix === 2 ? text.padStart(size, '0') : text;
    };
    const fixed = (value, places) => {
        // Half up of what is written, as Java has it: not of the binary fraction behind it.
        const [mantissa, exponent] = String(Math.abs(value)).split('e'), power = Number(exponent || 0) + (places ?? 0);
        const scaled = Math.floor(Number(`${mantissa}e${power}`) + 0.5);
        return scaled < 1e15 ? Math.sign(value) * Number(`${scaled}e${-(places ?? 0)}`) : value;
    };
    const bitsOf = (value, count, bigEndian) => {
        const bits = Array.from({ length: count }, (_, index) => Number(BigInt(value) >> BigInt(index) & 1n));
        return bigEndian === false ? bits : bits.reverse();
    };

    // -- text

    const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';
    const base64 = (bytes) => {
        let text = '';
        for (let index = 0; index < bytes.length; index += 3) {
            const [a, b, c] = bytes.slice(index, index + 3);
            text += ALPHABET[a >> 2] + ALPHABET[(a & 3) << 4 | b >> 4] +
                (b === undefined ? '=' : ALPHABET[(b & 15) << 2 | c >> 6]) + (c === undefined ? '=' : ALPHABET[c & 63]);
        }
        return text;
    };
    const unbase64 = (text) => {
        const bytes = [], body = text.replace(/=+$/, '');
        let bits = 0, count = 0;
        for (const each of body) {
            const value = ALPHABET.indexOf(each);
            if (value < 0) { refuse(`"${text}" is not Base64`); }
            bits = (bits << 6 | value) & 0xffff;
            count += 6;
            if (count >= 8) { count -= 8; bytes.push(bits >> count & 255); }
        }
        return bytes;
    };
    const encode = (text, charset) => {
        if (typeof text !== 'string') { refuse(`${show(text)} is not text`); }
        if (charset === undefined || /^utf-?8$/i.test(charset)) {
            return Array.from(unescape(encodeURIComponent(text)), (each) => each.charCodeAt(0));
        }
        const most = /^us-ascii|ascii$/i.test(charset) ? 127 : /^iso-?8859-1|latin1$/i.test(charset) ? 255 : 0;
        if (!most) { refuse(`the charset ${charset} is not known here`); }
        return Array.from(text, (each) => (each.charCodeAt(0) > most ? 63 : each.charCodeAt(0)));
    };
    const decode = (bytes, charset) => {
        const list = unsigned(Array.from(bytes));
        const text = list.map((each) => String.fromCharCode(each)).join('');
        if (charset !== undefined && !/^utf-?8$/i.test(charset)) { return text; }
        try { return decodeURIComponent(escape(text)); } catch (error) {
            return text.replace(/[\x80-\xff]+/g, '\ufffd');
        }
    };
    const signed = (bytes) => bytes.map((each) => each << 24 >> 24);
    const pattern = (text, flags) => new RegExp(text, flags);
    const literal = (text) => String(text).replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
    const format = (text, values) => {
        let index = 0;
        return text.replace(/%(-?)(0?)(\d*)(?:\.(\d+))?([sdfxXcb%n])/g, (_, left, zero, width, places, kind) => {
            if (kind === '%') { return '%'; }
            if (kind === 'n') { return '\n'; }
            const value = values[index++];
            let made = kind === 'f' ? fixed(value, Number(places ?? 6)).toFixed(Number(places ?? 6)) :
                kind === 'x' ? value.toString(16) : kind === 'X' ? value.toString(16).toUpperCase() : show(value);
            made = left ? made.padEnd(width) : made.padStart(width, zero ? '0' : ' ');
            return made;
        });
    };
    const flatten = (value, into, left, path, withPath) => {
        const add = (key, each) => {
            if (!left.includes(key)) { flatten(each, into, left, path ? `${path}.${key}` : String(key), withPath); }
        };
        if (Array.isArray(value)) { value.forEach((each, index) => add(index, each)); return; }
        if (isMap(value)) { Object.keys(value).forEach((key) => add(key, value[key])); return; }
        const parts = path.split('.');
        const short = /^\d+$/.test(parts[parts.length - 1]) ? parts.slice(-2).join('.') : parts[parts.length - 1];
        put(into, withPath ? path : short, value);
    };

    const functions = {
        each: (things) => (things == null ? refuse('there is nothing to go through: null') :
            isMap(things) ? Object.values(things) : Array.from(things)),
        array: (size) => Array(size).fill(0),

        atob: (text) => decode(unbase64(text)),
        btoa: (text) => base64(encode(text)),
        base64ToBytes: (text) => signed(unbase64(text)),
        base64ToHex: (text) => hexOf(unbase64(text)),
        bytesToBase64: (bytes) => base64(unsigned(Array.from(bytes))),
        bytesToExecutionArrayList: (bytes) => Array.from(bytes),
        byteArrayToExecutionArrayList: (bytes) => Array.from(bytes),
        bytesToHex: hexOf,
        bytesToString: decode,
        decodeToString: (bytes) => decode(bytes),
        decodeToJson: (given) => JSON.parse(typeof given === 'string' ? given : decode(given)),
        decodeURI: (text) => decodeURIComponent(text),
        encodeURI: (text) => encodeURI(text),
        hexToBytes: (text) => signed(bytesOf(digits(text, true))),
        stringToBytes: (text, charset) => signed(encode(text, charset)),
        printUnsignedBytes: (bytes) => unsigned(Array.from(bytes)),

        doubleToHex: (value, bigEndian) => {
            const made = new DataView(new ArrayBuffer(8));
            made.setFloat64(0, value, bigEndian === false);
            return '0x' + hexOf(new Int8Array(made.buffer));
        },
        floatToHex: (value, bigEndian) => {
            const made = new DataView(new ArrayBuffer(4));
            made.setFloat32(0, value, bigEndian === false);
            return '0x' + hexOf(new Int8Array(made.buffer));
        },
        intToHex: (value, bigEndian, prefix, length) => toHex(value, 8, bigEndian, prefix, length),
        longToHex: (value, bigEndian, prefix, length) => toHex(value, 16, bigEndian, prefix, length),
        intLongToString: inRadix,
        intLongToRadixString: inRadix,

        isBinary: (text) => (/^[01]+$/.test(text) ? 2 : -1),
        isOctal: (text) => (/^[0-7]+$/.test(text) ? 8 : -1),
        isDecimal: (text) => (isDecimal(text) ? 10 : -1),
        isHexadecimal: (text) => (isHexadecimal(text) ? 16 : -1),
        isList: (value) => Array.isArray(value) && !(value instanceof Unique),
        isMap,
        isNaN: (value) => Number.isNaN(Number(value)),
        isSet: (value) => value instanceof Unique,
        newSet: () => new Unique(),
        toSet: (list) => Unique.of(list),
        toList: (set) => Array.from(set),

        padStart: (text, length, fill) => String(text).padStart(length, fill),
        padEnd: (text, length, fill) => String(text).padEnd(length, fill),

        parseInt: parseInt_,
        parseLong: (text, radix) => integer(text, radix, 64),
        parseFloat: (text, radix) => (radix === 16 || (typeof text === 'string' && !isDecimal(text.trim()) &&
            /^(0x)?[0-9a-f]{8}$/i.test(text.trim())) ? hexToFloat(text) : number(text)),
        parseDouble: (text) => (typeof text === 'string' && /^0x[0-9a-f]{16}$/i.test(text.trim()) ?
            hexToDouble(text) : number(text)),
        parseHexToInt: hexToInt,
        parseHexToLong: hexToLong,
        parseHexToFloat: hexToFloat,
        parseHexToDouble: hexToDouble,
        parseBigEndianHexToInt: (text) => hexToInt(text),
        parseBigEndianHexToLong: (text) => hexToLong(text),
        parseBigEndianHexToFloat: (text) => hexToFloat(text),
        parseBigEndianHexToDouble: (text) => hexToDouble(text),
        parseLittleEndianHexToInt: (text) => hexToInt(text, false),
        parseLittleEndianHexToLong: (text) => hexToLong(text, false),
        parseLittleEndianHexToFloat: (text) => hexToFloat(text, false),
        parseLittleEndianHexToDouble: (text) => hexToDouble(text, false),
        parseHexIntLongToFloat: (text, bigEndian) => hexToInt(text, bigEndian),

        parseBytesToInt: (list, offset, length, bigEndian) => filled(list, offset, length, 4, bigEndian).getInt32(0),
        parseBytesToLong: (list, offset, length, bigEndian) =>
            Number(filled(list, offset, length, 8, bigEndian).getBigInt64(0)),
        parseBytesToFloat: (list, offset, length, bigEndian) =>
            single(real(filled(list, offset, length, 4, bigEndian).getFloat32(0))),
        parseBytesToDouble: (list, offset, length, bigEndian) =>
            real(filled(list, offset, length, 8, bigEndian).getFloat64(0)),
        parseBytesIntToFloat: (list, offset, length, bigEndian) =>
            buffer(view(list, offset, length, 4, bigEndian), 4, true).getUint32(0),
        parseBytesLongToDouble: (list, offset, length, bigEndian) =>
            Number(buffer(view(list, offset, length, 8, bigEndian), 8, true).getBigUint64(0)),

        parseByteToBinaryArray: (value, count, bigEndian) => bitsOf(byte(value) & 255, count ?? 8, bigEndian),
        parseBytesToBinaryArray: (list, count, bigEndian) => {
            const bits = unsigned(Array.from(list)).flatMap((each) => bitsOf(each, 8, true));
            const made = count === undefined ? bits : bits.slice(bits.length - count);
            return bigEndian === false ? made.reverse() : made;
        },
        parseLongToBinaryArray: (value, count, bigEndian) => bitsOf(value, count ?? 64, bigEndian),
        parseBinaryArray: (bits, offset, length, bigEndian) => bitsToNumber(bits, offset, length, bigEndian),
        parseBinaryArrayToInt: (bits, offset, length, bigEndian) => bitsToNumber(bits, offset, length, bigEndian),

        raiseError: (text, value) => refuse(value == null ? text : `${text} for value ${show(value)}`),
        toFixed: fixed,
        toInt: (value) => fixed(value, 0),
        toFlatMap: (map, left, withPath) => {
            const into = {};
            if (typeof left === 'boolean') { withPath = left; left = []; }
            flatten(map, into, left ?? [], '', withPath !== false);
            return into;
        },

        ArrayList: (given) => (Array.isArray(given) ? Array.from(given) : []),
        LinkedList: (given) => (Array.isArray(given) ? Array.from(given) : []),
        HashMap: (given) => (isMap(given) ? { ...given } : {}),
        LinkedHashMap: (given) => (isMap(given) ? { ...given } : {}),
        TreeMap: (given) => (isMap(given) ? { ...given } : {}),
        HashSet: (given) => Unique.of(Array.isArray(given) ? given : []),
        LinkedHashSet: (given) => Unique.of(Array.isArray(given) ? given : []),
        TreeSet: (given) => Unique.of(Array.isArray(given) ? given : []),
        String: (given) => show(given ?? ''),
        StringBuilder: (given) => new Builder(typeof given === 'string' ? given : ''),
    };
    const bitsToNumber = (bits, offset, length, bigEndian) => {
        const part = Array.from(bits).slice(offset ?? 0, length === undefined ? undefined : (offset ?? 0) + length);
        return parseInt((bigEndian === false ? part.reverse() : part).join('') || '0', 2);
    };

    // -- classes

    const integers = (parse, bits) => ({
        [parse]: (text, radix) => integer(text, radix ?? 10, bits),
        valueOf: (given) => integer(given, 10, bits),
        toString: (value, radix) => value.toString(radix ?? 10),
        toHexString: (value) => BigInt.asUintN(bits, BigInt(value)).toString(16),
        toBinaryString: (value) => BigInt.asUintN(bits, BigInt(value)).toString(2),
        toOctalString: (value) => BigInt.asUintN(bits, BigInt(value)).toString(8),
        compare,
        MAX_VALUE: Number(2n ** BigInt(bits - 1) - 1n),
        MIN_VALUE: Number(-(2n ** BigInt(bits - 1))),
    });
    const reals = (most) => ({
        parseDouble: number, parseFloat: number, valueOf: number, toString: String, compare, isNaN: Number.isNaN,
        MAX_VALUE: most,
    });
    const math = { floorDiv: (a, b) => Math.floor(a / b), floorMod: (a, b) => ((a % b) + b) % b, signum: Math.sign,
        rint: (value) => (Math.abs(value % 1) === 0.5 ? 2 * Math.round(value / 2) : Math.round(value)),
        toDegrees: (value) => value * 180 / Math.PI, toRadians: (value) => value * Math.PI / 180 };
    for (const name of Object.getOwnPropertyNames(Math)) { math[name] = Math[name]; }
    const moment = (...given) => (given.length < 2 ? new Date(...given) : new Date(Date.UTC(...given)));
    const real64 = 1.7976931348623157e308, real32 = 3.4028234663852886e38;
    const hex = (count) => Array.from({ length: count }, () => Math.floor(Math.random() * 16).toString(16)).join('');
    const classes = {
        Math: math,
        JSON: { parse: (text) => JSON.parse(text), stringify: (value) => JSON.stringify(value) },
        Integer: integers('parseInt', 32),
        Long: integers('parseLong', 64),
        Short: integers('parseShort', 16),
        Byte: { toUnsignedInt: (value) => byte(value) & 255, valueOf: byte },
        Double: reals(real64),
        Float: reals(real32),
        Boolean: { parseBoolean: (text) => /^true$/i.test(text), valueOf: (given) => /^true$/i.test(String(given)) },
        Date: Object.assign(moment, { now: () => Date.now(), parse: (text) => Date.parse(text), UTC: Date.UTC }),
        System: { currentTimeMillis: () => Date.now() },
        Arrays: { asList: (...given) => (given.length === 1 && Array.isArray(given[0]) ? [...given[0]] : given) },
        Collections: {
            sort: (list) => sorted(list), reverse: (list) => list.reverse(), emptyList: () => [], emptyMap: () => ({}),
            max: (list) => sorted(Array.from(list)).pop(), min: (list) => sorted(Array.from(list))[0],
        },
        Objects: { equals: same, isNull: (value) => value == null, nonNull: (value) => value != null },
        UUID: { randomUUID: () => `${hex(8)}-${hex(4)}-4${hex(3)}-8${hex(3)}-${hex(12)}` },
        String: Object.assign(functions.String, {
            valueOf: show, format: (text, ...values) => format(text, values),
            join: (between, ...parts) =>
                (parts.length === 1 && Array.isArray(parts[0]) ? parts[0] : parts).map(show).join(between),
        }),
    };
    Object.defineProperty(globalThis, '$', { value: { ...functions, ...classes } });

    // -- methods

    const hash = (value) => {
        let code = 0;
        for (const each of show(value)) { code = Math.imul(31, code) + each.charCodeAt(0) | 0; }
        return code;
    };
    hide(Object.prototype, {
        equals(other) { return same(this.valueOf(), other); },
        toString() { return show(this.valueOf()); },
        hashCode() { return hash(this); },
        compareTo(other) { return compare(this.valueOf(), other); },

        size() { return Object.keys(this).length; },
        length() { return Object.keys(this).length; },
        isEmpty() { return Object.keys(this).length === 0; },
        clear() { for (const key of Object.keys(this)) { delete this[key]; } },
        contains(key) { return own(this, key); },
        containsKey(key) { return own(this, key); },
        containsValue(value) { return Object.values(this).some((each) => same(each, value)); },
        get(key) { return own(this, key) ? this[key] : null; },
        getOrDefault(key, otherwise) { return own(this, key) ? this[key] : otherwise; },
        put(key, value) { const before = this.$get(key); put(this, key, value); return before; },
        putAll(other) { for (const key of Object.keys(other)) { put(this, key, other[key]); } },
        putIfAbsent(key, value) { return this.$get(key) ?? this.$put(key, value); },
        remove(key) { const before = this.$get(key); delete this[key]; return before; },
        replace(key, value) { return own(this, key) ? this.$put(key, value) : null; },
        keys() { return Object.keys(this); },
        keySet() { return Object.keys(this); },
        values() { return Object.values(this); },
        entrySet() { return Object.keys(this).map((key) => new Entry(key, this[key])); },
        copy() { return { ...this }; },
        invert() { return Object.fromEntries(Object.keys(this).map((key) => [this[key], key])); },
        sortByKey(ascending) { rearrange(this, (a, b) => compare(a, b), ascending); },
        sortByValue(ascending) { rearrange(this, (a, b) => compare(this[a], this[b]), ascending); },
        getKey() { return this.key; },
        getValue() { return this.value; },
    });
    const rearrange = (map, by, ascending) => {
        const keys = sorted(Object.keys(map), by);
        if (ascending === false) { keys.reverse(); }
        for (const key of keys) { const value = map[key]; delete map[key]; put(map, key, value); }
    };

    hide(Array.prototype, {
        size() { return this.length; },
        length() { return this.length; },
        isEmpty() { return this.length === 0; },
        clear() { this.length = 0; },
        add(first, second) {
            if (arguments.length > 1) { this.splice(first, 0, second); } else { this.push(first); }
            return true;
        },
        addAll(first, second) {
            if (arguments.length > 1) { this.splice(first, 0, ...second); return true; }
            for (const each of first) { this.$add(each); }
            return first.length > 0;
        },
        addFirst(value) { this.unshift(value); },
        addLast(value) { this.push(value); },
        contains(value) { return this.some((each) => same(each, value)); },
        containsAll(others) { return others.every((each) => this.$contains(each)); },
        includes(value) { return this.$contains(value); },
        indexOf(value) { return this.findIndex((each) => same(each, value)); },
        lastIndexOf(value) {
            for (let index = this.length - 1; index >= 0; index--) { if (same(this[index], value)) { return index; } }
            return -1;
        },
        get(index) {
            if (!(index >= 0 && index < this.length)) { refuse(`index ${index} is beyond the ${this.length} of the list`); }
            return this[index];
        },
        getFirst() { return this.$get(0); },
        getLast() { return this.$get(this.length - 1); },
        set(index, value) { const before = this.$get(index); this[index] = value; return before; },
        remove(given) {
            if (Number.isInteger(given) && !(this instanceof Unique)) { this.$get(given); return this.splice(given, 1)[0]; }
            const index = this.$indexOf(given);
            if (index >= 0) { this.splice(index, 1); }
            return index >= 0;
        },
        removeAll(others) { return keep(this, (each) => !others.$contains(each)); },
        retainAll(others) { return keep(this, (each) => others.$contains(each)); },
        subList(from, to) { return Array.from(this.slice(from, to)); },
        slice(from, to) { return Array.from(this.slice(from, to)); },
        splice(...given) { return Array.from(this.splice(...given)); },
        concat(other) { return [...this, ...other]; },
        copy() { return this instanceof Unique ? Unique.of(this) : Array.from(this); },
        fill(...given) { this.fill(...given); return this; },
        join(between) { return this.map((each) => (each == null ? '' : show(each))).join(between ?? ','); },
        push(...values) { return this.push(...values); },
        pop() { return this.pop(); },
        shift() { return this.shift(); },
        unshift(...values) { return this.unshift(...values); },
        reverse() { this.reverse(); return this; },
        sort(ascending) { return sorted(this, ascending); },
        toSorted(ascending) { return sorted(Array.from(this), ascending); },
        toReversed() { return Array.from(this).reverse(); },
        toSpliced(...given) { const made = Array.from(this); made.splice(...given); return made; },
        with(index, value) { const made = Array.from(this); made.$set(index, value); return made; },
        toArray() { return Array.from(this); },
    });
    hide(Unique.prototype, { add(value) { return !this.$contains(value) && this.push(value) > 0; } });
    const keep = (list, wanted) => {
        const left = Array.from(list).filter(wanted), changed = left.length !== list.length;
        list.length = 0;
        list.push(...left);
        return changed;
    };

    const text = {
        length() { return this.length; },
        size() { return this.length; },
        isEmpty() { return this.length === 0; },
        isBlank() { return !this.trim(); },
        contains(part) { return this.includes(part); },
        includes(part) { return this.includes(part); },
        equalsIgnoreCase(other) { return other != null && this.toLowerCase() === String(other).toLowerCase(); },
        getBytes(charset) { return signed(encode(String(this), charset)); },
        matches(regex) { return pattern(`^(?:${regex})$`).test(this); },
        replace(old, made) { return this.replace(pattern(literal(old), 'g'), () => made); },
        replaceAll(regex, made) { return this.replace(pattern(regex, 'g'), made); },
        replaceFirst(regex, made) { return this.replace(pattern(regex), made); },
        split(regex, limit) {
            if (limit > 0) {
                const parts = [];
                let rest = String(this), found;
                while (parts.length < limit - 1 && (found = pattern(regex).exec(rest)) && found[0]) {
                    parts.push(rest.slice(0, found.index));
                    rest = rest.slice(found.index + found[0].length);
                }
                return [...parts, rest];
            }
            const parts = this.split(pattern(regex));
            while (parts.length > 1 && parts[parts.length - 1] === '') { parts.pop(); }
            return parts;
        },
        strip() { return this.trim(); },
        toCharArray() { return this.split(''); },
        toJSON() { return String(this); },
        append(more) { return String(this) + show(more); },
        reverse() { return this.split('').reverse().join(''); },
    };
    for (const name of ['charAt', 'codePointAt', 'concat', 'endsWith', 'indexOf', 'lastIndexOf', 'padEnd', 'padStart',
        'repeat', 'slice', 'startsWith', 'substring', 'toLowerCase', 'toUpperCase', 'trim', 'valueOf']) {
        const native = String.prototype[name];
        text[name] = function (...given) { return native.apply(this, given); };
    }
    hide(String.prototype, text);
    hide(Builder.prototype, {
        append(more) { this.text += show(more); return this; },
        length() { return this.text.length; },
        toString() { return this.text; },
        reverse() { this.text = this.text.split('').reverse().join(''); return this; },
        isEmpty() { return !this.text; },
    });

    hide(Number.prototype, {
        byteValue() { return this << 24 >> 24; },
        shortValue() { return this << 16 >> 16; },
        intValue() { return Math.trunc(this); },
        longValue() { return Math.trunc(this); },
        doubleValue() { return Number(this); },
        floatValue() { return Number(this); },
        isNaN() { return Number.isNaN(Number(this)); },
        toFixed(places) { return this.toFixed(places); },
        valueOf() { return Number(this); },
    });

    const moments = {};
    for (const name of Object.getOwnPropertyNames(Date.prototype)) {
        if (/^(get|set)(?!Year)[A-Z]|^toISOString$|^toJSON$|^valueOf$/.test(name)) {
            const native = Date.prototype[name];
            moments[name] = function (...given) { return native.apply(this, given); };
        }
    }
    hide(Date.prototype, { ...moments, toString() { return this.toISOString(); } });

    // A map has no members but its own: what all objects of JavaScript have is not there, least of all the way to
    // functions of functions.
    for (const name of Reflect.ownKeys(Object.prototype)) {
        if (typeof name === 'string' && name[0] !== '$' && name !== 'valueOf' && name !== 'toString') {
            delete Object.prototype[name];
        }
    }
    delete Function.prototype.constructor;
})();
