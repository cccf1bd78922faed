/*
 * The same "random" bytes in every process, in place of the C library's getrandom(2).
 *
 * The order in which std's HashMap is walked follows from random keys, and libraries that the operator is made of
 * (kube's scheduler and its map of running rounds, tokio's choice of whom a watch channel wakes first) walk such maps
 * or draw from them. With this, the same seed gives the same run. Only the simulation is linked with it.
 */
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

static __thread uint64_t state = 0x9e3779b97f4a7c15u;

ssize_t getrandom(void *buffer, size_t length, unsigned int flags)
{
    unsigned char *bytes = buffer;
    (void)flags;
    for (size_t i = 0; i < length; i++) {
        /* xorshift64 */
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes[i] = (unsigned char)(state >> 32);
    }
    return (ssize_t)length;
}
