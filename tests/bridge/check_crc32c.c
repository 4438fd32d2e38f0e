/* Compare the two ways to compute a CRC-32C, and both with the value that the standard gives. */
#include "crc32c.c"

#include <stdio.h>
#include <stdlib.h>

int main(void)
{
    unsigned char data[1100];
    int compared = 0;
    if (aiorbd_crc32c("123456789", 9) != 0xE3069283 || ~by_table(UINT32_MAX, (void *)"123456789", 9) != 0xE3069283)
        return 1;
    srand(1);
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (unsigned char)rand();
    for (size_t start = 0; start < 9; start++)
        for (size_t length = 0; length <= 1090; length += length < 40 ? 1 : 35, compared++)
            if (aiorbd_crc32c(data + start, length) != ~by_table(UINT32_MAX, data + start, length))
                return 2;
    printf("compared %d\n", compared);
    return 0;
}
