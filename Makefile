# make: the programs, as fast as this machine allows.   make help: every target.
CC     ?= cc
OPT    ?= -O3
PREFIX ?= /usr/local
BUILD  ?= build/native

# flags that this compiler knows: $(call try,FLAG)
try     = $(shell echo 'int main(void){return 0;}' | $(CC) $(1) -Werror -x c - -o /dev/null 2>/dev/null && echo '$(1)')
# AVX-512 at its full width: without the second flag some compilers halve it
ARCH   := $(call try,-march=native) $(call try,-mprefer-vector-width=512)
OPENMP := $(call try,-fopenmp)
WARN    = -std=c99 -pedantic -Wall -Wextra -Wshadow -Wconversion -Wdouble-promotion -Wstrict-prototypes \
          -Wmissing-prototypes -Wvla $(if $(OPENMP),,-Wno-unknown-pragmas)
# fused only where fmaf is written; sqrtf without errno is one instruction; never -ffast-math
NUMBERS = -ffp-contract=off -fno-math-errno
# on s390x gcc's C99 widens float to double without this; what can't keep to float, as the x87, model.c refuses
EXCESS := $(call try,-fexcess-precision=fast)
# against attacks: checked copies, guarded stacks, code at a random address: dev/AUDIT.md
HARDEN := $(call try,-fstack-protector-strong) $(call try,-fPIE)
CHECKED = $(if $(filter -O0,$(OPT))$(SANITIZE),,-D_FORTIFY_SOURCE=2)
comma  := ,
LIBS   := $(call try,-pie) $(call try,-Wl$(comma)-z$(comma)relro$(comma)-z$(comma)now$(comma)-z$(comma)noexecstack) -lm
FLAGS   = $(WARN) $(OPT) $(ARCH) $(NUMBERS) $(EXCESS) $(HARDEN) $(CHECKED) $(OPENMP) $(SANITIZE) $(DEFINE)
ROOMS   = $(BUILD)/model.o $(BUILD)/tokenizer.o $(BUILD)/data.o
FORMATS = $(patsubst %,$(BUILD)/dev/%.o,import jinja hf hf_tokenizer gguf llama2c)
PROGRAMS = train eval convert chat explain survey errors clean compare report bench
CHECK   = $(shell pkg-config --cflags --libs check 2>/dev/null || echo -lcheck) -lm
DEMO    = build/demo

all: programs     ## the programs: ./train ./eval ./convert ./chat ./explain ./survey ./errors ./clean ./compare ./report ./bench
	@for p in $(PROGRAMS); do cmp -s $(BUILD)/$$p $$p || cp $(BUILD)/$$p $$p; done
programs: $(PROGRAMS:%=$(BUILD)/%)

$(BUILD)/%.o: %.c model.h Makefile
	@mkdir -p $(@D)
	$(CC) $(FLAGS) -c $< -o $@
# model.c once for each instruction set, and dev/levels.c, which chooses. The names are those that it defines.
ifdef LEVELS
ROOMS  += $(BUILD)/model_v1.o $(BUILD)/model_v3.o $(BUILD)/model_v4.o
ending  = $(shell nm -P -g $(1) | sed -n 's/^_*\([A-Za-z_0-9]*\) [A-TV-Z] .*/-D\1=\1_$(2)/p')
$(BUILD)/model.o: dev/levels.c model.h Makefile
	@mkdir -p $(@D)
	$(CC) $(FLAGS) -DLEVELS=$(LEVELS) -c $< -o $@
$(BUILD)/model_v1.o: model.c model.h Makefile $(BUILD)/model.o
	$(CC) $(FLAGS) $(call ending,$(BUILD)/model.o,v1) -c $< -o $@
$(BUILD)/model_v3.o $(BUILD)/model_v4.o: $(BUILD)/model_%.o: model.c model.h Makefile $(BUILD)/model_v1.o
	$(CC) $(FLAGS) $(if $(filter v4,$*),-mavx512f -mprefer-vector-width=512) -mavx2 -mfma \
	    $(call ending,$(BUILD)/model.o $(BUILD)/model_v1.o,$*) -c $< -o $@
endif
$(BUILD)/train $(BUILD)/eval: $(BUILD)/%: %.c $(ROOMS)
	$(CC) $(FLAGS) $^ -o $@ $(LIBS)
$(BUILD)/chat $(BUILD)/explain: $(BUILD)/%: dev/%.c $(ROOMS)
	$(CC) $(FLAGS) -I. $^ -o $@ $(LIBS)
$(BUILD)/clean $(BUILD)/compare $(BUILD)/survey: $(BUILD)/%: dev/%.c $(BUILD)/dev/show.o $(ROOMS)
	$(CC) $(FLAGS) $^ -o $@ $(LIBS)
$(BUILD)/dev/show.o: dev/show.h
$(BUILD)/dev/score.o: dev/score.h
$(BUILD)/errors: dev/errors.c $(BUILD)/dev/score.o $(ROOMS)
	$(CC) $(FLAGS) -I. $^ -o $@ $(LIBS)
$(BUILD)/trace: dev/trace.c $(ROOMS)
	$(CC) $(FLAGS) -I. $^ -o $@ $(LIBS)
REPORT  = $(patsubst %,$(BUILD)/dev/report_%.o,page log scores)
$(REPORT): dev/report.h dev/show.h
$(BUILD)/report: dev/report.c $(REPORT) $(BUILD)/dev/show.o $(ROOMS)
	$(CC) $(FLAGS) $^ -o $@ $(LIBS)
$(FORMATS): dev/convert.h dev/hf.h
$(BUILD)/convert: dev/convert.c $(FORMATS) $(ROOMS)
	$(CC) $(FLAGS) $^ -o $@ $(LIBS)
# The benchmark times kernels, and no clock may enter model.c: a copy of it gets marks (dev/bench.h).
$(BUILD)/model_marked.c: model.c dev/bench.h
	@mkdir -p $(@D)
	{ echo '#include "dev/bench.h"'; echo '#line 1 "model.c"'; \
	sed -E 's/^( +(if \(.*\) |else )?)([a-z_]+)\(m([,)])/\1MARK(\3, m\4/' model.c; } > $@
# A build that picks its instructions as it runs has no marks, and so no table of kernels.
$(BUILD)/bench: dev/bench.c dev/bench_kernels.c dev/bench.h $(if $(LEVELS),$(ROOMS),$(BUILD)/model_marked.c $(filter-out %/model.o,$(ROOMS)))
	$(CC) $(FLAGS) -I. $(filter-out %.h,$^) -o $@ $(LIBS)

portable:         ## the same for any machine of this kind: on x86-64 it picks AVX-512, AVX2 or neither as it runs; same bytes
	$(MAKE) BUILD=build/portable ARCH= $(if $(findstring x86_64,$(shell $(CC) -dumpmachine)),LEVELS=4) all
reference:        ## the same from the kernels' definitions alone: slow, same bytes
	$(MAKE) BUILD=build/reference DEFINE=-DREFERENCE all
asan:             ## the same with AddressSanitizer and UndefinedBehaviorSanitizer
	$(MAKE) BUILD=build/asan OPT='-O1 -g' SANITIZE='-fsanitize=address,undefined -fno-sanitize-recover=all' all

demo: all         ## measure the bundled base model, fine-tune it on 6,411 rows, measure again: two minutes
	@sh dev/demo/demo.sh $(DEMO) dev/demo/base.bin
demo-from-scratch: all ## the same without the bundled model: pretrains a small one on the demo's own messages first
	@sh dev/demo/demo.sh $(DEMO)-scratch

# Each test program exits nonzero on failure. Waiting threads sleep, so that 8 of them on 2 cores don't crawl.
TESTS   = $(BUILD)/test_model $(BUILD)/test_grad $(BUILD)/test_lora $(BUILD)/test_rooms $(BUILD)/test_convert
$(BUILD)/test_model $(BUILD)/test_grad $(BUILD)/test_lora: $(BUILD)/%: tests/%.c model.c model.h tests/cases.h tests/golden.h tests/run.h
	@mkdir -p $(BUILD)
	$(CC) $(FLAGS) -Wno-conversion -Wno-double-promotion $< -o $@ $(CHECK)
$(BUILD)/test_rooms: tests/main.c tests/test_tokenizer.c tests/test_data.c tests/test_rows.c tests/rooms.h tests/test_train.c tests/test_report.c tests/test_survey.c tests/test_edges.c train.c dev/survey.c $(BUILD)/dev/show.o $(ROOMS)
	$(CC) $(FLAGS) -Wno-conversion -Wno-double-promotion -I. $(filter %.o tests/%.c,$^) -o $@ $(CHECK)
$(BUILD)/test_convert: tests/test_convert.c $(FORMATS) $(ROOMS)
	$(CC) $(FLAGS) -Wno-conversion -Wno-double-promotion $^ -o $@ $(CHECK)
TESTS  += $(BUILD)/test_gguf
$(BUILD)/test_gguf: tests/test_gguf.c dev/gguf.c $(filter-out %/gguf.o,$(FORMATS)) $(ROOMS)
	$(CC) $(FLAGS) -Wno-conversion -Wno-double-promotion $(filter-out dev/gguf.c,$^) -o $@ $(CHECK)
TESTS  += $(BUILD)/test_eval $(BUILD)/test_errors
$(BUILD)/test_eval: tests/test_eval.c eval.c tests/run.h $(ROOMS)
	$(CC) $(FLAGS) -Wno-conversion -Wno-double-promotion $(filter-out eval.c %.h,$^) -o $@ $(CHECK)
$(BUILD)/test_errors: tests/test_errors.c dev/errors.c dev/score.c dev/score.h tests/run.h $(ROOMS)
	$(CC) $(FLAGS) -Wno-conversion -Wno-double-promotion -I. $< $(ROOMS) -o $@ $(CHECK)
$(BUILD)/pty: tests/pty.c
	@mkdir -p $(BUILD)
	$(CC) $(OPT) -Wall -Wextra $< -o $@
# without Check what to do about it, before anything is built, instead of a compiler's words
$(TESTS): | check-here
check-here:
	@echo 'int main(void){return 0;}' | $(CC) -include check.h -x c - -o /dev/null $(CHECK) 2>/dev/null || \
	{ echo 'Check (libcheck), which the unit tests need, is not here.'; echo 'hint: make deps installs it'; exit 1; }
FAULTY  = $(BUILD)/train_faults $(BUILD)/eval_faults $(BUILD)/convert_faults
test: check-here all $(TESTS) $(BUILD)/pty $(BUILD)/trace $(BUILD)/train_kill $(FAULTY) ## all tests (needs Check: make deps)
	@for t in $(TESTS); do OMP_WAIT_POLICY=passive $$t || exit 1; done
	sh tests/cli.sh $(BUILD)
	sh tests/answers.sh $(BUILD)
	sh tests/chat.sh $(BUILD)
	sh tests/bench.sh $(BUILD)
	sh tests/resume.sh $(BUILD)
	sh tests/faults.sh $(BUILD)
	sh tests/check.sh $(BUILD)
	sh tests/tools.sh $(BUILD)
	sh tests/trace.sh $(BUILD)
	sh tests/report.sh $(BUILD)
	sh tests/tour.sh $(BUILD)
	sh tests/speed.sh $(BUILD)
test-resume: all $(BUILD)/train_kill ## a run killed before every write of a file, and resumed: some minutes
	sh tests/resume.sh $(BUILD) all
exercises: all    ## the experiments of dev/EXERCISES.md, each in a copy of the tree with one line changed: some minutes
	sh dev/exercises.sh
# train with calls that kill it; a linker without --wrap makes none, and resume.sh leaves those tests out
WRAP    = -Wl,--wrap=rename,--wrap=remove,--wrap=unlink,--wrap=fsync,--wrap=fflush
$(BUILD)/train_kill: train.c tests/kill.c $(ROOMS)
	-$(CC) $(FLAGS) -I. $(WRAP) $^ -o $@ $(LIBS)
faults: all $(FAULTY) ## every call on files and every allocation fails in turn, 1,000 kills: some minutes
	sh tests/faults.sh $(BUILD) all
FWRAP   = stat fstat fsync ftruncate rename fseeko fflush fwrite vfprintf fopen fdopen open fcntl fclose close fread ferror \
          clearerr malloc calloc realloc posix_memalign strdup realpath free \
          stat64 fstat64 ftruncate64 fseeko64 fopen64 open64 fcntl64
FLINK   = -Wl$(subst $() $(),,$(FWRAP:%=$(comma)--wrap=%))
$(BUILD)/train_faults $(BUILD)/eval_faults: $(BUILD)/%_faults: %.c tests/faults.c $(ROOMS)
	-$(CC) $(FLAGS) $(FLINK) $^ -o $@ $(LIBS)
$(BUILD)/convert_faults: dev/convert.c tests/faults.c $(FORMATS) $(ROOMS)
	-$(CC) $(FLAGS) $(FLINK) $^ -o $@ $(LIBS)
test-bits:        ## the same bytes from gcc and clang, -O0 to -O3, native, portable, reference, 1 to 8 threads
	sh tests/bits.sh
# dev/parity_double.c has double where model.c says float, and dev/levels.c is for x86-64: they are left out
test-warnings:    ## no warning from gcc and clang, with and without OpenMP
	@for cc in gcc clang; do command -v $$cc >/dev/null || { echo "$$cc is not here: left out"; continue; }; \
	for omp in -fopenmp -Wno-unknown-pragmas; do \
	printf '#include <omp.h>\nint main(void){return 0;}\n' | $$cc -fopenmp -x c -c - -o /dev/null 2>/dev/null || omp=-Wno-unknown-pragmas; \
	for f in *.c $(filter-out dev/parity_double.c dev/levels.c,$(wildcard dev/*.c)); do \
	$$cc $(filter-out -Wno-unknown-pragmas,$(WARN)) -O2 $(NUMBERS) -I. -Werror $$omp -c $$f -o /dev/null || exit 1; done; done; done; \
	echo "no warnings"
test-asan:        ## the tests under AddressSanitizer and UndefinedBehaviorSanitizer
	CK_FORK=no $(MAKE) BUILD=build/asan OPT='-O1 -g' SANITIZE='-fsanitize=address,undefined -fno-sanitize-recover=all' test
test-valgrind:    ## the tests under valgrind, without AVX-512, which it lacks
	sh tests/valgrind.sh
static:           ## cppcheck, clang-tidy and gcc's analyzer: no finding
	sh dev/static.sh
coverage:         ## the tests on a build with counters: 95 % of each top-level file's lines are reached
	sh tests/coverage.sh
mutants:          ## do the tests notice 200 one-line changes of the rooms? Some hours; goes on where it was stopped
	python3 dev/mutants.py
check-real: all $(BUILD)/check_real ## checks on real models: make check-real REAL=folder
	@[ -d "$(REAL)/models" ] || { echo 'want REAL=folder, with models/gpt2_nano_sort and models/stories260K in it'; exit 1; }
	$(BUILD)/convert --zero-bias $(REAL)/models/gpt2_nano_sort $(BUILD)/nano.bin
	$(BUILD)/convert $(REAL)/models/stories260K/stories260K.bin $(BUILD)/stories.bin --tokenizer $(REAL)/models/stories260K/tok512.bin
	$(BUILD)/check_real $(REAL) $(BUILD)/nano.bin $(BUILD)/stories.bin
$(BUILD)/check_real: tests/check_real.c $(ROOMS)
	$(CC) $(FLAGS) -I. $^ -o $@ $(LIBS)

platforms:        ## the same bytes on eight processors, by cross-compilers and qemu: dev/platforms.sh
	sh dev/platforms.sh all
baremetal: $(BUILD)/train ## fine-tunes on a Cortex-M without an operating system, in qemu: dev/baremetal/README.md
	sh dev/baremetal/run.sh $(BUILD)
audit: all        ## checks what dev/AUDIT.md says of system calls, libraries, files, flags, the rebuild
	sh dev/audit.sh $(BUILD)

trace: $(BUILD)/trace ## ./trace: one step layer by layer, for who ports model.c
	cp $< $@
# Every reader under libFuzzer, which comes with clang; a finding is a file in build/fuzz/found/crashes.
TIME    = 600
FUZZ    = clang -std=c99 -g -O1 $(NUMBERS) -Wno-unknown-pragmas -fno-sanitize-recover=all -fsanitize=address,undefined
fuzz: all $(BUILD)/train_kill ## hostile bytes into every reader: make fuzz TIME=600 (seconds for each of ten)
	@mkdir -p build/fuzz
	$(FUZZ),fuzzer -I. dev/fuzz/fuzz.c $(FORMATS:$(BUILD)/%.o=%.c) model.c tokenizer.c data.c -o build/fuzz/fuzz -lm
	$(FUZZ),fuzzer -I. dev/fuzz/fuzz_eval.c model.c tokenizer.c data.c -o build/fuzz/fuzz_eval -lm
	rm -rf build/fuzz/seeds
	dev/fuzz/seeds.sh $(BUILD) build/fuzz/seeds
	dev/fuzz/run.sh $(TIME) build/fuzz build/fuzz/seeds build/fuzz/found
fuzz-corpus: all $(BUILD)/train_kill ## what fuzzing found before, read again under the sanitizers
	dev/fuzz/corpus.sh $(BUILD) build/fuzz
parity: all $(BUILD)/parity $(BUILD)/parity_double ## what dev/parity.py drives to compare with transformers: dev/PARITY.md
$(BUILD)/parity_double: dev/parity_double.c model.c model.h
	$(CC) $(FLAGS) -Wno-conversion -Wno-double-promotion $< -o $@ $(LIBS)
$(BUILD)/parity: dev/parity.c $(ROOMS)
	$(CC) $(FLAGS) -I. $^ -o $@ $(LIBS)

deps:             ## installs Check, which the unit tests need, if it is missing
	@printf '#include <check.h>\nint main(void){return 0;}\n' | $(CC) -x c - -o /dev/null 2>/dev/null && exit 0; \
	as=; [ "$$(id -u)" = 0 ] || as=sudo; \
	if   command -v apt-get >/dev/null; then $$as apt-get update -qq && $$as apt-get install -y -qq check pkg-config; \
	elif command -v dnf >/dev/null; then $$as dnf install -y check-devel pkgconf-pkg-config; \
	elif command -v apk >/dev/null; then $$as apk add check-dev pkgconf; \
	elif command -v brew >/dev/null; then brew install check pkg-config; \
	else echo "install Check (libcheck) by hand: no apt-get, dnf, apk or brew here"; exit 1; fi
install: all      ## into $(PREFIX)/bin, as tune-train, tune-eval, ...
	mkdir -p $(DESTDIR)$(PREFIX)/bin
	for p in $(PROGRAMS); do cp $$p $(DESTDIR)$(PREFIX)/bin/tune-$$p || exit 1; done
clean:            ## removes what was built
	rm -rf build $(PROGRAMS)
help:             ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## */\1	/p' Makefile | while IFS='	' read -r t h; do printf '%s\n' "$$h" | fold -s -w 54 | \
	{ read -r l; printf '  make %-18s %s\n' "$$t" "$$l"; sed 's/^/                          /'; }; done
# what help lists is no file
.PHONY: programs check-here $(shell sed -n 's/^\([a-z-]*\):.*\#\#.*/\1/p' Makefile)
