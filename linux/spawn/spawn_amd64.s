//go:build linux

#include "textflag.h"

// func vfork(number, arg0, arg1, arg2 uintptr, calls *call, n uintptr, fail *failure) (pid int)
// The process keeps its state in R12 (next call), R13 (calls left) and BX (failure): the kernel preserves them, and the
// stack is the thread's that waits.
TEXT ·vfork(SB), NOSPLIT|NOFRAME, $0-64
	MOVQ  number+0(FP), AX
	MOVQ  arg0+8(FP), DI
	MOVQ  arg1+16(FP), SI
	MOVQ  arg2+24(FP), DX
	XORQ  R10, R10
	XORQ  R8, R8
	MOVQ  calls+32(FP), R12
	MOVQ  n+40(FP), R13
	MOVQ  fail+48(FP), BX
	SYSCALL
	TESTQ AX, AX
	JZ    next
	MOVQ  AX, pid+56(FP)
	RET

next:
	TESTQ R13, R13
	JZ    exit
	MOVQ  0(R12), AX
	MOVQ  8(R12), DI
	MOVQ  16(R12), SI
	MOVQ  24(R12), DX
	MOVQ  32(R12), R10
	MOVQ  40(R12), R8
	MOVQ  48(R12), R9
	SYSCALL
	CMPQ  AX, $0xfffffffffffff001
	JCC   failed // -4095 and above are errors
	TESTQ AX, AX
	JZ    done
	CMPQ  56(R12), $0
	JNE   exit // another process goes on

done:
	ADDQ  $64, R12
	DECQ  R13
	JMP   next

failed:
	MOVQ AX, 0(BX)
	MOVQ R13, 8(BX)

exit:
	MOVQ $127, DI
	MOVQ $231, AX // exit_group
	SYSCALL
	JMP  exit
