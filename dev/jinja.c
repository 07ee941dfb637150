// jinja.c -- chat templates of other programs, which are written in Jinja, a programming language: the known
// ones are recognised by their SHA-256, and stand for templates of ours that render the same. No Jinja is
// ever run or guessed at. Outwards the same table gives a Jinja text, written for this project, that renders
// as ours does.
//
// What the originals do besides, and ours do not: they describe tools, take white space off the ends of a
// message (Llama 3), put today's date where ours has a fixed one (Llama 3.2), drop the thoughts of earlier
// turns (Qwen3), and accept several system messages. Llama 2's format is not here: it puts the system message
// inside the first user's.
#include "convert.h"
#include <string.h>

// ---- templates of ours ------------------------------------------------------------------------------------
#define USER_TEXT "{text}"        // a row's input follows it on a line of its own

#define IM_DEFAULT(system) "[default]\n{<|im_start|>}system\n" system "{<|im_end|>}\n\n"
#define IM_TURNS "[system]\n{<|im_start|>}system\n{text}{<|im_end|>}\n\n" \
                 "[user]\n{<|im_start|>}user\n" USER_TEXT "{<|im_end|>}\n\n" \
                 "[assistant]\n{<|im_start|>}assistant\n"
#define IM_ANSWER "{target}{text}{<|im_end|>}\n\n"

#define LLAMA3_HEAD(role) "{<|start_header_id|>}" role "{<|end_header_id|>}\n\n"
#define LLAMA3_TURNS "[user]\n" LLAMA3_HEAD("user") USER_TEXT "{<|eot_id|>}\n" \
                     "[assistant]\n" LLAMA3_HEAD("assistant") "{target}{text}{<|eot_id|>}\n"
#define LLAMA31_DATES "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"

// What a default system message says.
#define SMOLLM2_SYSTEM "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
#define QWEN25_SYSTEM  "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."

// ---- Jinja of ours ----------------------------------------------------------------------------------------
#define J_IM_DEFAULT(system) "{%- if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\n" system \
                             "<|im_end|>\\n' }}{%- endif %}"
#define J_IM(answer) "{%- for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}" \
                     "{%- if message['role'] == 'assistant' %}{{ '" answer "' }}{%- endif %}" \
                     "{{ message['content'] + '<|im_end|>\\n' }}{%- endfor %}" \
                     "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n" answer "' }}{%- endif %}"
#define J_LLAMA3(system) "{{ bos_token }}" system \
                         "{%- for message in messages %}{{ '<|start_header_id|>' + message['role'] + " \
                         "'<|end_header_id|>\\n\\n' + (dates if message['role'] == 'system' else '') + " \
                         "message['content'] + '<|eot_id|>' }}{%- endfor %}" \
                         "{%- if add_generation_prompt %}" \
                         "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}"
#define J_LLAMA31_DATES "Cutting Knowledge Date: December 2023\\nToday Date: 26 Jul 2024\\n\\n"
// Templates for single exchanges: what stands before the user's text, after it, and before the answer.
#define J_ROW(before, after, answer) \
    "{%- for message in messages %}{%- if message['role'] == 'user' %}" \
    "{{ '" before "' + message['content'] + '" after "' }}{%- elif message['role'] == 'assistant' %}" \
    "{{ '" answer "' + message['content'] + eos_token }}{%- else %}" \
    "{{ raise_exception('this template has no place for a system message') }}{%- endif %}{%- endfor %}"

// ---- the formats ------------------------------------------------------------------------------------------
typedef enum { CHATML, SMOLLM2, QWEN15, QWEN2, QWEN25, QWEN3, LLAMA3, LLAMA31, ZEPHYR, FORMATS } Format;
static const struct { const char *ours, *jinja; } FORMAT[FORMATS] = {
    [CHATML]  = {IM_TURNS IM_ANSWER, J_IM("")},
    [SMOLLM2] = {IM_DEFAULT(SMOLLM2_SYSTEM) IM_TURNS IM_ANSWER, J_IM_DEFAULT(SMOLLM2_SYSTEM) J_IM("")},
    [QWEN15]  = {IM_DEFAULT("You are a helpful assistant") IM_TURNS IM_ANSWER,
                 J_IM_DEFAULT("You are a helpful assistant") J_IM("")},
    [QWEN2]   = {IM_DEFAULT("You are a helpful assistant.") IM_TURNS IM_ANSWER,
                 J_IM_DEFAULT("You are a helpful assistant.") J_IM("")},
    [QWEN25]  = {IM_DEFAULT(QWEN25_SYSTEM) IM_TURNS IM_ANSWER, J_IM_DEFAULT(QWEN25_SYSTEM) J_IM("")},
    // Without thinking: the model is given an empty thought. Here every answer has it, there only the last.
    [QWEN3]   = {IM_TURNS "{<think>}\n\n{</think>}\n\n" IM_ANSWER, J_IM("<think>\\n\\n</think>\\n\\n")},
    [LLAMA3]  = {"[system]\n" LLAMA3_HEAD("system") "{text}{<|eot_id|>}\n" LLAMA3_TURNS,
                 J_LLAMA3("{%- set dates = '' %}")},
    [LLAMA31] = {"[default]\n" LLAMA3_HEAD("system") LLAMA31_DATES "{<|eot_id|>}\n"
                 "[system]\n" LLAMA3_HEAD("system") LLAMA31_DATES "{text}{<|eot_id|>}\n" LLAMA3_TURNS,
                 J_LLAMA3("{%- set dates = '" J_LLAMA31_DATES "' %}{%- if messages[0]['role'] != 'system' %}"
                          "{{ '<|start_header_id|>system<|end_header_id|>\\n\\n' + dates + '<|eot_id|>' }}"
                          "{%- endif %}")},
    // Zephyr and TinyLlama: the roles are plain text.
    [ZEPHYR]  = {"[system]\n<|system|>\n{text}{eot}\n\n[user]\n<|user|>\n" USER_TEXT "{eot}\n\n"
                 "[assistant]\n<|assistant|>\n{target}{text}{eot}\n\n",
                 "{%- for message in messages %}{{ '<|' + message['role'] + '|>\\n' + message['content'] + "
                 "eos_token + '\\n' }}{%- endfor %}"
                 "{%- if add_generation_prompt %}{{ '<|assistant|>\\n' }}{%- endif %}"},
};

// Those of ours that have names and hold one exchange.
static const struct { const char *name, *jinja; } ROW[] = {
    {"alpaca", J_ROW("Below is an instruction that describes a task. Write a response that appropriately "
                     "completes the request.\\n\\n### Instruction:\\n", "\\n\\n### Response:\\n", "")},
    {"plain", J_ROW("", "\\nAnswer:", " ")},
    {"none", J_ROW("", "\\n", "")},
};
enum { ROWS = sizeof ROW / sizeof *ROW };

// SHA-256 of texts in published models, without white space at the end. Several rows of one format: line
// breaks written as \n or as themselves, and revisions that render the same.
static const struct { Format format; const char *sha256; } KNOWN[] = {
    {CHATML, "153280e3ff55d19da1398bdb3914ee2a51b80429bfaedde11d7d216c39db80f3"},
    {CHATML, "fcf7a096fe99a48fd9ad2b250bf9237e96e8f48bffec1c7ea4d3f225176cd40e"},
    {CHATML, "f91864928fccff928b3068ca784db6275e655e400ccbb28f61d92c0090caf3b3"},
    {CHATML, "66edfb854931c933d3ac94f507626dd4fa2d5ca0a9b1036b11729d296a7392ac"},
    {SMOLLM2, "872be49dbb638044ad01b60388f48d469ff2980e5f0dccdc22ec907db54d0788"},
    {SMOLLM2, "de9cde7d1b0ca0cc87459a6673e0d12fb89c070bdb24e4a30b6e4d187b226221"},
    {SMOLLM2, "91d59b4a4e01e25bcfb027884bf3bd5259702636162d5c57298e47de46bcf53d"},
    {SMOLLM2, "0bc26076a5852d16e1609e4f1ce90004e97f2d1d59a7a542a0cc41f183e6a318"},
    {QWEN2, "793202280c0910ab26bc6eb57c8212c2417324c6d8c4efd0d10d59092ab3e3eb"},
    {QWEN2, "f0206845c9ebc3abb4735d44f286eb81ce99238ad2accc710c6fc60e6cb8ccc8"},
    {QWEN2, "1b30302891ed13303a73721deed8a82c7fd7fa13fc2df6135bf52797570ebdb4"},
    {QWEN2, "6b737edc9bdf87c9a813d73b32cdef9e8dd9ed562c5204ebbf3a64b48f87e64d"},
    {QWEN15, "af9c0233881b083b52ff773580215222b5440ac3d0beeeca99b76329b048f8db"},
    {QWEN15, "7c0cc400db493cfc546224cbd626ef46495c4b19103042eb5518f06bf7f1e26d"},
    {QWEN15, "235114f04fb602f38df1dd7afec473c6b22a7aa6e06653580088692386666dda"},
    {QWEN15, "47656c16ca01e8dd43f6e6848327d5e42984f762a215f06024605aded26fe3b3"},
    {QWEN25, "55b2f4a26ac9ee719330a61a0c39d9e538b0e9322212f048326318cff4f8674a"},
    {QWEN2, "4039eed0f28b7aaa337e70c76cfedba3271ee32505835a095a8c92e536b3c355"},
    {QWEN3, "a55ee1b1660128b7098723e0abcd92caa0788061051c62d51cbe87d9cf1974d8"},
    {QWEN3, "87a2728cb8dc9fe424d624542f6060ec05a1d285ebbec578bb078900e33396b5"},
    {LLAMA31, "93c0e9aa3629bbd77e68dbc0f5621f6e6b23aa8d74b932595cdb8d64684526d7"},
    {LLAMA31, "d82792f95932f1c9cef5c4bd992f171225e3bf8c7b609b4557c9e1ec96be819f"},
    {LLAMA3, "ba03a121d097859c7b5b9cd03af99aafe95275210d2876f642ad9929a150f122"},
    {LLAMA3, "4f46ecd43418f216df8c26936c60e5d04bcc81db47db5d86fbe889f64212dd4c"},
    {LLAMA3, "b48c47f6443892716176eb200bf4ef108f64e06ca26ed0fa8ebc0a4b3992fcb2"},
    {LLAMA3, "b75e17085cfc511ead6d4fab84b86ab3c168ec7a332568a91d0889cdcba94394"},
    {ZEPHYR, "66291cf0045c2425a3a667cf3cbb7af2b11f09e025c02f97245323ab79119362"},
    {ZEPHYR, "4f39e3a4b9e3d369b42fd00d93a78f171914bb4e58ec84fc420433d7a153288a"},
};
enum { KNOWNS = sizeof KNOWN / sizeof *KNOWN };

const char *jinja_known(const char *text, size_t n) {
    Sha256 s;
    char hex[65];
    while (n > 0 && strchr(" \t\r\n", text[n - 1]) && text[n - 1]) n--;
    for (int i = 0; i < FORMATS; i++)
        if (strlen(FORMAT[i].jinja) == n && memcmp(FORMAT[i].jinja, text, n) == 0) return FORMAT[i].ours;
    for (int i = 0; i < ROWS; i++)
        if (strlen(ROW[i].jinja) == n && memcmp(ROW[i].jinja, text, n) == 0)
            return template_named(ROW[i].name);
    sha256_init(&s);
    sha256_add(&s, text, n);
    sha256_end(&s, hex);
    for (int i = 0; i < KNOWNS; i++)
        if (strcmp(KNOWN[i].sha256, hex) == 0) return FORMAT[KNOWN[i].format].ours;
    return NULL;
}

const char *jinja_for(const char *template) {
    for (int i = 0; i < FORMATS; i++)
        if (strcmp(template, FORMAT[i].ours) == 0) return FORMAT[i].jinja;
    for (int i = 0; i < ROWS; i++) {
        const char *named = template_named(ROW[i].name);
        if (named && strcmp(template, named) == 0) return ROW[i].jinja;
    }
    return NULL;
}
