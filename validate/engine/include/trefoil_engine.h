/* A GGUF artifact of trefoil on ggml: encode a batch once, then decode it step by step.
 *
 * Functions that can fail return null or -1 and write why into `error`, a text of at most `error_len` bytes with its 0;
 * `error` may be null. No function panics or throws into its caller. An engine and its sessions are used by one thread at
 * a time, and a session may outlive the engine it came from.
 */
#ifndef TREFOIL_ENGINE_H
#define TREFOIL_ENGINE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct trefoil_engine trefoil_engine;
typedef struct trefoil_session trefoil_session;

typedef struct {
    uint32_t encoder_threads; /* 0: as many as the processor has */
    uint32_t decoder_threads; /* 0: the encoder's while other programs leave processors idle, else one */
    int f16_cache;            /* keys and values in 16 bits */
    int repack;               /* 0: no matrix, 1: those of the decoder, 2: all */
    int exact_activations;    /* spell out what ggml reads from tables of f16 */
} trefoil_options;

/* Either floats or integers is null; the other has as many elements as the product of the shape. */
typedef struct {
    const char *name; /* input_ids and attention_mask, input_features, or input_values and attention_mask */
    const size_t *shape;
    size_t rank;
    const float *floats;
    const int64_t *integers;
} trefoil_tensor;

/* `options` may be null. */
trefoil_engine *trefoil_open(const char *file, const trefoil_options *options, char *error, size_t error_len);
void trefoil_close(trefoil_engine *engine);
/* Logits of a token. */
size_t trefoil_vocabulary(const trefoil_engine *engine);

trefoil_session *trefoil_session_new(const trefoil_engine *engine);
void trefoil_session_free(trefoil_session *session);
/* Encodes a batch, all inputs with the batch first, and forgets the one before. */
int trefoil_encode(trefoil_session *session, const trefoil_tensor *inputs, size_t count, char *error, size_t error_len);
/* Feeds the next tokens of every row, ids[rows][tokens] with `count` ids in all. `logits` has room for exactly
 * count * trefoil_vocabulary floats, [rows][tokens][vocabulary]. */
int trefoil_step(trefoil_session *session, const int64_t *ids, size_t count, float *logits, size_t logits_len,
                 char *error, size_t error_len);
/* Makes row i what row rows[i] was: beams go on from others, a source gets several, finished rows are dropped. */
int trefoil_select(trefoil_session *session, const size_t *rows, size_t count, char *error, size_t error_len);
/* Forgets all target tokens; the sources stay. */
void trefoil_restart(trefoil_session *session);

#ifdef __cplusplus
}
#endif

#endif
