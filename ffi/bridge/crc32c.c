/* The checksum CRC-32C (Castagnoli), as iSCSI and NVMe define it. */
#include <string.h>

#include "internal.h"

static const uint32_t polynomial = 0x82F63B78;

/* For processors without the instruction. */
static uint32_t by_table(uint32_t crc, const unsigned char *data, size_t length)
{
    uint32_t table[256];
    for (uint32_t i = 0; i < 256; i++) {
        table[i] = i;
        for (int bit = 0; bit < 8; bit++)
            table[i] = table[i] >> 1 ^ (table[i] & 1 ? polynomial : 0);
    }
    while (length--)
        crc = crc >> 8 ^ table[(crc ^ *data++) & 255];
    return crc;
}

#ifdef __x86_64__
__attribute__((target("sse4.2"))) static uint32_t by_instruction(uint32_t crc, const unsigned char *data, size_t length)
{
    uint64_t wide = crc, word;
    for (; length >= sizeof word; data += sizeof word, length -= sizeof word) {
        memcpy(&word, data, sizeof word);
        wide = __builtin_ia32_crc32di(wide, word);
    }
    for (crc = (uint32_t)wide; length; length--)
        crc = __builtin_ia32_crc32qi(crc, *data++);
    return crc;
}
#endif

/* Any thread. */
uint32_t aiorbd_crc32c(const void *data, size_t length)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("sse4.2"))
        return ~by_instruction(UINT32_MAX, data, length);
#endif
    return ~by_table(UINT32_MAX, data, length);
}
