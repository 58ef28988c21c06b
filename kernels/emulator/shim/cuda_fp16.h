// 16-bit floats: storage and widening.
#pragma once
#include "shim.h"

struct __half {
    uint16_t bits;
};
struct __half2 {
    __half x, y;
} __attribute__((aligned(4)));

inline float __half2float(__half half) {
    const uint32_t sign = uint32_t(half.bits & 0x8000) << 16, exponent = half.bits >> 10 & 31, fraction = half.bits & 0x3ff;
    if (exponent == 0) {
        const float size = ldexpf(float(fraction), -24);
        return sign ? -size : size;
    }
    const uint32_t wide = exponent == 31 ? 255 : exponent + 112;
    return __uint_as_float(sign | wide << 23 | fraction << 13);
}
inline float2 __half22float2(__half2 pair) { return float2{__half2float(pair.x), __half2float(pair.y)}; }
