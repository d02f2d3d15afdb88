#include "textflag.h"

// func subWord(w uint32) uint32
TEXT ·subWord(SB), NOSPLIT, $0-12
	MOVL w+0(FP), AX
	MOVQ AX, X0
	PSHUFD $0, X0, X0
	AESKEYGENASSIST $0, X0, X0 // its lowest word is that of the S-box
	MOVQ X0, AX
	MOVL AX, ret+8(FP)
	RET

// func inverseMix(key *[16]byte)
TEXT ·inverseMix(SB), NOSPLIT, $0-8
	MOVQ key+0(FP), AX
	MOVOU (AX), X0
	AESIMC X0, X0
	MOVOU X0, (AX)
	RET

// func decryptBlocks(keys *[16]byte, rounds int, data *byte, blocks int, iv *[16]byte)
//
// Eight blocks at a time: an AESDEC takes several cycles, but another can begin in each.
// X15 is the ciphertext of the block before.
TEXT ·decryptBlocks(SB), NOSPLIT, $0-40
	MOVQ keys+0(FP), AX
	MOVQ rounds+8(FP), CX
	MOVQ data+16(FP), SI
	MOVQ blocks+24(FP), BX
	MOVQ iv+32(FP), DX
	MOVOU (DX), X15
	DECQ CX // the last round is another instruction

eight:
	CMPQ BX, $8
	JB one
	MOVOU (AX), X8
	MOVOU (SI), X0
	MOVOU 16(SI), X1
	MOVOU 32(SI), X2
	MOVOU 48(SI), X3
	MOVOU 64(SI), X4
	MOVOU 80(SI), X5
	MOVOU 96(SI), X6
	MOVOU 112(SI), X7
	PXOR X8, X0
	PXOR X8, X1
	PXOR X8, X2
	PXOR X8, X3
	PXOR X8, X4
	PXOR X8, X5
	PXOR X8, X6
	PXOR X8, X7
	MOVQ AX, R8
	MOVQ CX, R9

round8:
	ADDQ $16, R8
	MOVOU (R8), X8
	AESDEC X8, X0
	AESDEC X8, X1
	AESDEC X8, X2
	AESDEC X8, X3
	AESDEC X8, X4
	AESDEC X8, X5
	AESDEC X8, X6
	AESDEC X8, X7
	DECQ R9
	JNZ round8
	MOVOU 16(R8), X8
	AESDECLAST X8, X0
	AESDECLAST X8, X1
	AESDECLAST X8, X2
	AESDECLAST X8, X3
	AESDECLAST X8, X4
	AESDECLAST X8, X5
	AESDECLAST X8, X6
	AESDECLAST X8, X7
	PXOR X15, X0
	MOVOU (SI), X8
	PXOR X8, X1
	MOVOU 16(SI), X9
	PXOR X9, X2
	MOVOU 32(SI), X10
	PXOR X10, X3
	MOVOU 48(SI), X11
	PXOR X11, X4
	MOVOU 64(SI), X12
	PXOR X12, X5
	MOVOU 80(SI), X13
	PXOR X13, X6
	MOVOU 96(SI), X14
	PXOR X14, X7
	MOVOU 112(SI), X15
	MOVOU X0, (SI)
	MOVOU X1, 16(SI)
	MOVOU X2, 32(SI)
	MOVOU X3, 48(SI)
	MOVOU X4, 64(SI)
	MOVOU X5, 80(SI)
	MOVOU X6, 96(SI)
	MOVOU X7, 112(SI)
	ADDQ $128, SI
	SUBQ $8, BX
	JMP eight

one:
	TESTQ BX, BX
	JZ done
	MOVOU (SI), X0
	MOVOU X0, X1
	MOVOU (AX), X8
	PXOR X8, X0
	MOVQ AX, R8
	MOVQ CX, R9

round1:
	ADDQ $16, R8
	MOVOU (R8), X8
	AESDEC X8, X0
	DECQ R9
	JNZ round1
	MOVOU 16(R8), X8
	AESDECLAST X8, X0
	PXOR X15, X0
	MOVOU X1, X15
	MOVOU X0, (SI)
	ADDQ $16, SI
	DECQ BX
	JMP one

done:
	RET
