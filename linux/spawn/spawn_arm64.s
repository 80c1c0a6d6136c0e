//go:build linux

#include "textflag.h"

// func vfork(number, arg0, arg1, arg2 uintptr, calls *call, n uintptr, fail *failure) (pid int)
// The process keeps its state in R19 (next call), R20 (calls left) and R21 (failure): the kernel preserves them, and the
// stack is the thread's that waits.
TEXT ·vfork(SB), NOSPLIT|NOFRAME, $0-64
	MOVD number+0(FP), R8
	MOVD arg0+8(FP), R0
	MOVD arg1+16(FP), R1
	MOVD arg2+24(FP), R2
	MOVD ZR, R3
	MOVD ZR, R4
	MOVD calls+32(FP), R19
	MOVD n+40(FP), R20
	MOVD fail+48(FP), R21
	SVC
	CBZ  R0, next
	MOVD R0, pid+56(FP)
	RET

next:
	CBZ  R20, exit
	MOVD 0(R19), R8
	MOVD 8(R19), R0
	MOVD 16(R19), R1
	MOVD 24(R19), R2
	MOVD 32(R19), R3
	MOVD 40(R19), R4
	MOVD 48(R19), R5
	SVC
	CMN  $4095, R0
	BCS  failed // -4095 and above are errors
	CBZ  R0, done
	MOVD 56(R19), R9
	CBNZ R9, exit // another process goes on

done:
	ADD  $64, R19
	SUB  $1, R20
	B    next

failed:
	MOVD R0, 0(R21)
	MOVD R20, 8(R21)

exit:
	MOVD $127, R0
	MOVD $94, R8 // exit_group
	SVC
	B    exit
