// tokenizer.c -- byte-pair encoding: text to token ids and back, and learning a vocabulary from text.
// Pure: memory in, memory out. It neither allocates nor prints and keeps no state; no text and no tokenizer,
// however hostile, makes it crash or hang.
//
//     encoding   Of all neighbours that form a known pair, the pair of the smallest rank becomes one token.
//     learning   The most frequent pair of neighbours becomes a new token.  Both again and again.
//
// Source: Sennrich, Haddow, Birch, "Neural Machine Translation of Rare Words with Subword Units" (2016).
// GPT-2's encoder (2019) added the alphabet of 256 bytes, to which no text is unknown, and the pre-tokens:
// pieces such as words, which no token crosses.
// Read in this order: characters -> pre-tokens -> tables -> merging -> form NFC, which only Qwen needs ->
// special tokens -> index, where all that comes from a file is checked -> as bytes, as files hold it ->
// encode -> templates, which make text of a conversation -> train, which needs the first three -> text and
// random numbers as Python has them -> hashes.
// Tests: tests/test_tokenizer.c.
#include "model.h"
#include <string.h>

enum {
    VOCAB_MAX = 1 << 24, MERGES_MAX = 1 << 24,    // the largest tokenizer
    SPECIAL_BYTES = 128,                          // the longest special token: bounds the search for them
    WORD_BYTES = 32,                              // the longest pre-token that is looked up whole
    LEARNED_BYTES = 128, PAIRS_MAX = 1 << 30,     // training: the longest token; the most pairs it counts
    PROBES = 128,                                 // places tried in a hash table; GPT-2's need 21 at most
    TEXT_MAX = INT32_MAX                          // bytes of text at once
};
#define NONE UINT32_MAX                           // no position, no merge, no place
static const char END_OF_TEXT[] = "<|endoftext|>";

// 0 if value lies in lo..hi, else -1 with the fault filled in.
static int check(Fault *f, const char *what, int64_t value, int64_t lo, int64_t hi) {
    if (value >= lo && value <= hi) return 0;
    *f = (Fault){what, value, lo, hi};
    return -1;
}

// Bytes as a size_t; what this machine cannot address becomes a size that no allocation gives.
static size_t to_size(uint64_t bytes) {
    return bytes < SIZE_MAX ? (size_t)bytes : SIZE_MAX;
}

// ---- characters -------------------------------------------------------------------------------------------
// PACKED is what Unicode says of characters, as whole numbers: runs of letters, numbers, spaces; runs of
// marks by the rank of their combining class; splits, which are canonical decompositions. dev/unicode.py
// wrote it and tells their order. The tokenizer's index has it unpacked, with a byte for each code below
// CODES; all others are OTHER.
enum { OTHER, LETTER, NUMBER, SPACE };            // class of a character: the lower two bits of its byte
enum { RANK_SHIFT = 2, ACTIVE = 63 };             // above it 0, a mark's rank, or ACTIVE, see form NFC
// ---- begin of what dev/unicode.py wrote: do not edit by hand
// Unicode 15.0.0: letters are the categories L*, numbers N*, spaces what has White_Space.
enum { CODES = 0x33000, SECONDS = 89, SPLITS = 2061 };
static const char *const PACKED[] = {
    "nI&@'[#Q,8<5<C#c3#>#9$&#-###'%&9&A&i,/.M'8#&#h&'&$)&&#5#&%&#&6&c5&d-;dH&H)#5Ke8=/&d*Mc#,/$&cE&#P$8$$,#%",
    ")#S#&@c:c;D#N,#C>$/#28/#>#,#c(;8-2:&(VLdQX,#Y#8,0,&2/*)$)8&)&#,&,#S#J$&%0,#$*()#;(/$)8&)&$&$&$c@&&#9,)%",
    "S+&%&8&)&$&',#Y#P$0,>#D*)$)8&)&$&',#c=$&%0,&#$(D#&(,%&&,$&#&$,$,%,.c%#c#/Y*&%&9&2,#c1%)#)$0,<)&#/*&%&9&",
    ",&',#c@$&$0,&$V+&%&K)#S#2%')#%05&(24,:&+&#))cA,VR&$G)?,cX$&#&'&:&#&,&$>#)'&#?,)&cC#cA6G*&Fc4'g<M_#$,5(/",
    "&,#,$8%//G#',5H&#2#)M&g/&&))&#&&)K&&)C&&))&#&&)1&[&&)c%N6,2Sc8)(,kN)3%##<2c--%#*84J5M4M/&%PVcL#/#-,6,c&",
    ",5c;8')D&#2c(AAcY,#@)'DN/<6-cR9>Wd%,6,J#f:QV*-,c^@J$$,#Nc1Fc8,,%$,#F)+8M)%c^&&(&$,#2dbe#f8)()H)()*&#&#&",
    "#&A)W&)&#,%&),&)(//2%&).-c<$4#d2#T###*(2#$,5/fR#/#),&#,'5#&#&#&&&-)&2'/#'U#$$'ch&^eN8ccF@c{'eG5&,$?#)H&",
    "#2#)Z8#S9>)&)&)&)&)&)&)&)eS#wU#/$$#c/+8'*%#$/c85%&c<&&2M&c@-&ABd32cD,c>*'1cD,cY1q#etbe#nl/e,P)f/,2$,#$_",
    "QSA)c($,cX+)cI)b2$&#&'c+2&%&&&9K(AVMTc8,c+(,#&$',#>A9c.?8Qc7#$,5'&,$,#'&Kc(%&*0,59,#,T&#,$)')#&#c+%)-8%",
    "G()()(>)&)&M&05cUK,5hhFG9/Spf/gP)cLcU)G'2#&,&/&'&#&$&$&cNcFgMYb)Xc[.g?'&d)],8<5<Dc;,()()()%cL.&<&5&$&1)",
    "0cIc]HOH[W$m?\?,ST=/B$&>6$##*$#2HA@)F/*''cad@*,5F/F/J;VG-&1&)&$&-&1&)&$e,fY>8A*c+(&L&+e2()#&N&$,#)9**#9",
    "*)#A<+d35&$3'#8$(/<e5Z0$#$$2*P##P&&%&?B+c(?$$&?$%cC*&>6'SXA8**#53*#4c))eSc+dHUJU9(#FH,oVA&L5$eM?$,##;8E",
    "&c44d-7$)_9GWc2@&$)#JOcC;9,>FQ,/#)#;E,#GRM&E,##&#06D4&;\\$d`)&#&&&1&,8QW,D*)$)8&)&$&',#Y#G'i=WY&3,2%c=R",
    "_$&#<,iUQc^&cOR_#E,cUMJ#9,dE=c#./)jNNg?b$5G*)#)*&$&:P#&#N,e5*)IS#&#c7#AJ8#b#DP\\#Yc+n8+&GV#Q?2@g3)&$&Hb",
    "#?,5(&$&BM#9,pE5P#&/&Dc8,f%#Q7d$p<fVcQVe&fmGcCPrRV(hvNk)pnNj[8A',5c1',5@YRS&H,')&725cf3b$9f^c-2#e)/e#$&",
    "#c7emZ;u8ca+p|X&&)&$&fEP#c:%)#M&;h.ez/cM2/,+8,koV6H6g(;h8c7&c)&$)#)$)&&.&#&)&c#&&)*&)&>&&&'&#,)&g6);&;&",
    "A&;&A&;&A&;&A&;&**Td~#A5(n2`hYOA)*,/#q&@YN0,x%>0,chU)&&&$&1&e'*+d3c&8#0,ck)]'%'&eHO'1k)&&=&$&#)#&,&&&#&",
    "#5#/#&#&#&%&$&#)#&#&#&#&#&$&#)&&)&&&&&#&,&32%&'&3}0/ftM,cv5yyBcCdj\\5e@)eh$MffSgg@j@dpIdw-2dkBh'ZyrU7V#",
    "P&V#N#P'L$P&L$P-#'P&U*Y#U#P%U%P$cL%P&U#V#P$U#W#X$W#X$W#U/jo*'jf?#U&P#U%Q#P#U(P(U$P#U$Q#T#U#(#)#*#+#,#-#",
    ".#/#0#1$2#3#4#c,#c-#7#cL#P#c'#dhM*<#=#>#coI#:#;#<#=#>#?#@#U$P$U'P#U$P#p1#eeH)dC&P#U#dC$cG#U$P#cdG#|G#P#",
    "U$P#U$P%U#P$U#P#U%P#U#P#U#P#U#P#U$f|5)P#U#j?#w=&cL+cL%cL'ckM%cz9#P%U&cj['P'U0cG#U$P#U$P#U%P%9#:#;#U%P#U",
    "$P$U'cyI#oW#e:#P#U$efF#oW#cp%#cz@#oW#elG#oW#elG#oW#e{0#elG#oW#hD#D#edX#oW#ekR$oW#exK#el0$'#mQ&ek;$'#mS&",
    "dl$$y]#cG#cE#cuZ#J#cB#f]&d8#cL$'#cL$c{b#en5#^$dq.#xdN%ccdS${Y#fxb#k;#hi1#fmJ#U#P#hvb#P#dg(#sa*d>#cp%'P(",
    "U$P#cG$U$P$U'P#U&edX#n`#cg?#P#U)ctA$cw[#kD$dcJ#fu=%Z#P'U$P&U#Z)f,#g_#e:$hd_$P#U)P#U$X#M#P#L#UGV#T$P#O#U",
    "#W#P#U#P#xeE$#$U&#%U$f1#dH$U#P#U##$P&U#eli'%fk2#d}5Br~U#T#V#Q#R$eh5$cgcxa#f1,~5$doE$jo3#ceZ#fsX#yb4cwO%",
    "ceZ#d{N#l;#il.#cL$P#dC$g($cL#crS#iqA#xhgH#ysL)P)U$ccz[#h|^#frX'cyt.#cL#ci-###P#eC#gdH#P#ss0&m{:$do@%dfZ",
    "$U%P#U#P&cp\\#P#U#P#g{'#ci6#n)#cw&#%#df(%co7$c{7#dk;#iT#ei-#%#go##'#dnU$oW#w=)e:'hj2#dJ#vF#ec,#%#iuT#%#",
    "ez9#esA#%#ep\\#ji2#%#i{U$eA#fx+#dq<#qE#doN#n{Z#i{S#^$doN#oc6$whrN'cyB)cke#$wpmW#gyhX$#%e8#N'iH*dC'P$|G&",
    "fqa%ey{B)cL3dC)cL$cL'edQ#f|5)mq&#c{0&qs:$P#U#cdo0)el@(%#$z%z#|-z3ozUz1z+{S{)z;z'z/|'z)z5{1cs\\{EzKzAzI",
    "zE{=iwM{3foRozWds\\z7z9{CcxKd{\\zY{/fv}.csbds[dw\\etMfn$dw{Wfv}@fv}B{+{-{?csRct&ct(eg\\ek_elQew_e|7foN",
    "dxc1dykAz&{TcsLcsTcsVcxIcxMdw_dxQeg_ehOehQepOet'etOexQe|Ae|afmHfmLfs?dxs_dxtQdycCdycWdyc]dzkCfv}Dfv}F",
    "fv}Hkq%d$$#.#1#'#@#cL&%&$#.#'#%*$#.#'#cJ,%$$#.#1#'#dW.$#.#'#$*dW2$#.#1#'#@#cL&%&$#.#'#%*$#.#'#cJ,%$$#.#",
    "1#'#dW.$#.#'#$*c@#*cS*b/c#/b<c#<b$_$b.c#.b)c#)b-c#-b-a-bd\\a*b/c#/b)c#)b<c#<b-c#-b._.b/c#/b)c#)b3c#3b.a",
    ".be#a1b*c#*b/c#/b<c#<b)c#f9$.b3a3bc=a$b3c#3b-c#-bgH_$b3c#3b-c#-bf5a*b/c#/bAc#AbdV]$b3c#3b-c#-b$a$b.c#.b",
    "3c#3b-c#-b3a3b-c#-be#a1b*c#*b/c#/b@c#@bAc#Ab<c#<b._.b._.b'c#$$$b)c#)b-c#-bct>c9EbtJWEbcm)cK-b-S-b-W-b-W",
    "-b*e0*b$c#$b-c#-b%c#%bcCcS*b*l&*$*m%*bd_fa-b-[-b<[<b*mX*$-cK-hX-s3f/c)$bdWU%b$dP$b$a$b$?$b7gQ7b9c#9b7[7",
    "b9c#9b7[7b9c#9b7W7b9c#9b7]7b9c#9b7]7b9c#9bFc'FbFaFbd_c;-bj?c1)b3[3b*eD*b*c%*b)g/)b*o`*$*pO*bojO$v0$c<#F",
    "^9dk:#dAnD#u_j:e<$y4##xW$x^$&$&c=.c=.$*$c$chXcE':$:$*$&$&$FchXG':$/$.$*gH4'#deXd('#c='f2=gHJ%'/8p)9cq6b",
    "cdK)'#c='f2c(gH[%'/8cf6cD7$esPda/bt4c//b'c#'bdaY/bdYg('$'h)'b'a'bd\\a*b'c#'b'W'bdYg6'$'g['b*c7*b'c#'bA",
    "c#Ab'['bdY['bpvKpZC#Cc$c$c%Cc(is4f8c\\KxSDcctVtNl82e;(cw*_?$?$?,?,?$?4?*gkXfRc&#wAc/J$d#<fe_f(e6.cuVc'D",
    "$D,e6@ms)jZeY#c)#wMc/V$du^eBdtDcJW$X%hf-ebg|*eTja0c,#dD#K*hj'eZY$c-%h~_fHdG#Z(c/)suAm4n^6ga,ga,ga,sGYoQ",
    "cDdJ#Ld$d%$mTd'z&c$n^6ga,ga,ga,sGYgm>fLf|hBedbcT&cT&cT&cT&fF*c~#c4cT&e-&;$cT(chx-iv%Qb)a)b,c#,b5c#5b$e,",
    "$b)g))b,c#,b5c#5b3c#3b:c#:b%g>%$$%$$:h?:bBc#Bb/p(/$)q))b*a*b)a)b,c#,b'c#'b3c#3bRc#RbBaBb$e.$b$g+$b,c#,b",
    "5c#5b,a,b*jp6*$5jq95b:c#:b$a$b)c#)b,c#,b)a)b,c#,b5c#5b:c#:b$e0$b'c#'b%dP%$$%$$$i]$b)c#)b)_)b,c#,b*jq2*$",
    "5jr55b)a)b,c#,b)i0)$),)$)jj$)$)jrA)b,c#,b5c#5b:c#:bPaPbBc#Bb:c#:b$iH$$'$'$1jM1b,c#,b%a%b$c#$b'c#'b)c#)b",
    ",c#,b)a)b'c#'b)a)b.a.b,c#,b5c#5b5G':@(@&cBj.gPk_,b2c#2b$e$$b%c#%b2c#2b1c#1b.jo^.$$jna$$%%%$2%2$1%1$/",
    "jn\\/$,jt[,b2c#2b1c#1b$e,$b%c#%b2c#2b1c#1b.jp>.$2juC2b,c#,b,W,b2c#2b$e,$b%c#%b2c#2b1c#1b.jpR.$$jk=$$%%%",
    "$2%2$1%1$,%,$,l;,b2c#2b$kV$$%%%$2%2$1%1$,%,$%lQ%b,c#,b2c#2b1c#1bjN{R6#%ix@%$$%$$0%0$8iyC6#%iyP%$$%$$0%0",
    "$8ixK6#%ixX%$$%$$e*iy[6#%iz(%$$%$$e*iy'6#%iy4%$$%$$0%0$8iz76#%izD%$$%$$0%0$8iyC6#%iyP%$$%$$0%0$8izS6#%",
    "iz`%$$%$$0%0$8iyW6#%iz$%$$%$$e*i{'6#%i{4%$$%$$e*iz+6#%iz8%$$%$$0%0$cOi{;c>i{Jc=#cI#8izC6#%izP%$$%$$0%0$",
    "8i{S6#%i{`%$$%$$0%0$%i{S##-%4##3%6##5%8##7%B##<%1##2%+##,dXiwF&$&$&$&$&$&$&$&$&$&$&$&$&$&$&$&D&$&$&$&$&",
    "$&$&$&$&$&$&$&$&$&$&$&cD&$&$&$&$&$&$&$&$&$&$&$&$&$&$&$/i{_*#&i{`&i{a&-cI,&i~,/jc-*#%###9&8c<#c2dbzE&jx:",
    "&i{]&5cI4&i~@%jcE##=%@##?&>%jc2$#0#/i~/*#%D##cWdbc40D/cE*#%###Ac>jeJ$#0#/jcU*#%.##Y8D6#0*0./c/*#%###Q6H",
    "%yU#$x\\{-dXjzZ&i{I&,cI-&jc<%jdQ##I%\\##W&V##yMdU$j|>$pp'#jdWf.$|_eVgo)kl8+&{-&coYcZ+*+'dr?cDgO,d](cf*R",
    "cD&cj5Pd]0d]&cD(cdQkv9cDkw*p%K+kvE+&+kw.+$d]<+$d](+$jA(+$d]0+$d](+$cu=X+.+$+&dl[cA+$+J+$jAb+$+$+$d|&$",
    "exH$eoy(co;dod?cq>cA&cA&cA&cA&cA&cA&cA&cA&cA&cA&cA&dZ(cA&cA&j>0>#cA(>#cA(>#cA(>#cA(>#cdNcMnIdPt->cA&cA&",
    "cA&cA&cA&cA&cA&cA&cA&cA&cA&dZ(cA&cA&j>0>#cA(>#cA(>#cA(>#cA(>#cdNcMdZd4($($($f38ehx{<f0|d8ltKmlNr'jqQkja",
    "csHwsP#vd9rebsh7cd$do>gyHdrZc{VmXk^dfPl~=zTcc^z,ft`ew<dn0wqAcmHhv@c~PgvFhyDtp?gjXhi&~Pl~Yjz@cx0mxMdl<",
    "cxHcrFjpFtt3sDk0ge.cv@dc\\clPdrVcv,dNdfHdt(cg\\v8lu?iHcg$cw4fkXeiXgs5piQcw,jlZcf^e~[cy2guRd{Lsva~6e{D",
    "cd0kLe~bj2hzJuiUocTokACmpBcc&cwHgj*eeMmsEdcHkmZsl-e{>cg8gqLq4kxUly*mw[fq6f~[jw`ddKhw6mxacjXjw(ex2cy$jyC",
    "liNlc3dv7ke0j|-gd,mcQwXdbhoRgy.cr2dm(c}\\s|Wl<coDcqTc|Td{Tds:jf(ck\\cg<cPwwIgw8ckDli8o}?zZeBvVd~4s.{b",
    "cp$cg6uXfgPd{SegL{0tsIf:rVi~8hyVq2nq%k:~.dkHfvBdp5lnEdjLcm>pHu&grNgPegDg:ge>cl&dFhBvv=nc(hz.cn*qlQghYtJ",
    "efJdDdtVci4dh:ciJfgVeibfjDrj-os.uk-g}FeRcp>lXcq<lBzFck,ix>viEfx$p|6vd=eu>fxDkoboraoTc|HeiBk}`up]q.dlN",
    "dw>kXlVcg\\dc$pZdvPdtNFdq8cnNuk)iyXir]joHx2f}&fw4csJt2qv3cwJgv\\c~]dLmFdxGs1is`sjSp}No}[cIer`cg<in(kpE",
    "f~Tcy7mr0c}Ae~$et'ngSezIcibdU#vVc<#e~VdU,gzOkp:~buFc&0c6jp0irSy`c<#cxLc<#cm.dU$cobh,f.c&diF<c:cj:etOctT",
    "vj5kTe.mZXe<t:e4e&pRe2ccZ6cg.hJc.e*|\\fHg@qJcmFg(j2t:g\\qPci@g<8%2.0cB$gFd$k`sJLcRkDfHq2f:#p^ckTf.m8cR",
    "nVcLw>f&c{8jZcZq|/f{yTfrhOdUcLpyG~@d=q3p,cXl0cHw(d3d*d4uRdTfDBj>h.cc60fBd*k8eNd/f.c?fFd&nBdRcNj*j^g(*cX",
    "cg(d$n0nVCdPiZlBcwTcqGeVeXl0fLcLi&&g8DTdN7n:q,j@gXhbfTl6h0|<f\\~6p2d,Bk4cTc=cN)Ed:dDm^sBkVk0h\\cf.e0eH",
    "f,c*:cBxPcj6e~g>/ejDgfcSciXc$gmnBd~0kv(fz~Cd8el+cq{Md,TpN5U#TdpdbU#SdpeUa#4#4$4$4$4$4$4$cM&4$4$4$4$cM&",
    "cM&4$cM&4$cM&4$4$4$4$bMH+H6H4ktv`dvgLd&&v+6hoNf:\\$|xVrLc4#th4mFc5#dP#no`i`]$crkT}Zd}sj$czs&G$N0O#c9#c:",
    "#c;#fj-dVG$N$N$O%O$fwseJj@e|ua-4fni$fm|'d><d0eR`d>SjcEfv~Zfny=0BHfno,fvu)jg>c.fno^fnoK<xSxb4gzs6gzq7>",
    "jk+jlZ8c:,jm'joF&XN8$DcF24T6&##fok<fgc[jg/Lfor*foqS.LfRe/BbcVdJVd(Bc$#LF2@lJjCjDh/c(ci=c}0k#c.Tf'g0%eX",
    "fp{RfpyG,@J2cbfqh.d&fqe_c@:dAf>leS>lj:cN#fqr6fqn-L@:fqw,fqvU0|<{Elo%lp`>dFcIfrlPfrg%frg(freS)De,$lwIlx>",
    "c8Lc:lz1f}w$f}v1l{J((Jg{|2g{zKfsgH#figCk|a#l|YgfqDoo&gh}S4l~3mcPcH6c&f2mh1_miRfswbfsv=f$*&'c>Jc*?8c@J*V",
    "8d&dJc(eZftgZfthAd%e:Xe$ftj<fthAd][myYncXL`c/m~9ni(\\ft~^ft{1jLgAnkCnmRnn5c+ho>(he8e+inDslKlc^*.c\\9",
    "fuqBgfeWnwDeMh<cHfum2fulaeAiLn}Qoc,e$d0g^fumXful3ol)on4fuz.fuxIon/oo*c<X$fvhFjn'jq@fvg;fvu>fvq]>e/g@c2",
    "cTcOc2@<fvnTfvq7iXc`pcYpfR+fvr6fvxSmLfvqBcBfvp3eHY)pn-poJcH/cNfeqRfem#fvz^fvx1fwf@fv~)<XfwsRfwr3Lfwzbh`",
    "fwzWDqdaqeTqe=#qj@LLJd,qkAqn4fxrFfxqSfxtJfxs'flk@flfAfyjDPf:gl|3:qu:fym`%c0VfynM$#c8qvEqxFqx-dBgmz0fy|A",
    "c^cbq}5gnl(fzhCfzl*c8fzkOdZrg[rjD6,fz{<k8#f{cUri;gos4f{e-(ro'goxTf{c?rsGrt2-\\f{z.f{w)ru'rx.cXd(rzEgqeJ",
    "`gqe?gqibf|daf|h*f|g5e,8f|pLd4f|p)f|t2f|sSfni@gcr7sl\\dDsmSsoHl~5gk}F>p{'4fmzY(ezVwoIsw./Fou7ou^&6c4",
    "f}pNf}pQcRd.d6f7fVc6eBj+eP&Bf}pVkLfOgss7th.&c(gckJgci/f}|2gthA*gtlBk$gtu1tq,:8&cbc%f.c;fPdEd(XtwAtz6b",
    "tz3t}0(gcf*f~~C0uc5ud,zcag{uHgRgvw34ulTd<f\\h8gcxHgcu]NdVdZgdgRchc9ezcUAcJezi>ey~7e*gerVXgehUd\\bgen\\",
    "genIj\\f`$d[m\\Zge},geqAwuOww&ge{bg{rEw|\\rjErmDgfs&hLg|w;2xe6ggg6g}hSg}m*ggj9#^ggr<gglKxgAxiNe^XcZxkC",
    "g~}&ghj_k>g\\x{A`x}Vgii0hdhOhdj<j4f(gilOyi-yk(,060c,gjh,",
};
// ---- end of what dev/unicode.py wrote

// First and second become `to`. If second is NONE: first is split into `to` and, unless that is 0, `more`.
typedef struct { uint32_t first, second, to, more; } Rule;

enum { PLACES = 8192 };
typedef struct Unicode {
    uint8_t byte[CODES];                          // class and rank of each character
    Rule rule[PLACES];                            // hash table; to is 0: a free place
} Unicode;

typedef struct {
    const char *const *line;
    const char *at;
} Packed;

// The next number: its last digit is one of 64 from '#' on, those before it are of 28 from 'c' on.
static uint32_t unpack(Packed *p) {
    uint32_t v = 0;
    if (!*p->at) p->at = *++p->line;
    for (; *p->at >= 'c'; p->at++) v = 28 * v + (uint32_t)(*p->at - 'c') + 1;
    return 64 * v + (uint32_t)(*p->at++ - '#');
}

// Runs of characters with a value of 1..kinds. A number holds the gap before the run and the value.
static void unpack_runs(Packed *p, uint8_t *byte, int shift) {
    uint32_t runs = unpack(p), kinds = unpack(p), at = 0;
    for (; runs > 0; runs--) {
        uint32_t v = unpack(p), end = at + v / kinds + 1 + unpack(p);
        for (at += v / kinds; at < end; at++) byte[at] = (uint8_t)((v % kinds + 1) << shift);
    }
}

// Length of the character at s (n > 0 bytes), and its code. A byte that begins no valid UTF-8 (RFC 3629) is a
// character by itself, of the code NONE: so any bytes at all are a string of characters.
static size_t utf8(const uint8_t *s, size_t n, uint32_t *code) {
    static const uint32_t LEAST[] = {0, 0, 0x80, 0x800, 0x10000};     // smaller codes have a shorter form
    uint32_t c = s[0];
    size_t len = c < 0xC0 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : c < 0xF8 ? 4 : 1;
    *code = c < 0x80 ? c : NONE;
    if (len == 1 || len > n) return 1;
    c &= 0x7Fu >> len;
    for (size_t i = 1; i < len; i++) {
        if ((s[i] & 0xC0) != 0x80) return 1;
        c = c << 6 | (s[i] & 0x3Fu);
    }
    if (c < LEAST[len] || (c >= 0xD800 && c <= 0xDFFF) || c > 0x10FFFF) return 1;
    *code = c;
    return len;
}

size_t utf8_length(const uint8_t *s, size_t n) {
    uint32_t code;
    size_t len = utf8(s, n, &code);
    return code == NONE ? 0 : len;
}

size_t utf8_put(uint8_t *out, uint32_t code) {
    static const uint8_t LEAD[] = {0, 0xC0, 0xE0, 0xF0};
    size_t more = code < 0x80 ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;     // continuation bytes
    *out = (uint8_t)(LEAD[more] | code >> 6 * more);
    for (size_t i = 1; i <= more; i++) out[i] = (uint8_t)(0x80 | (code >> 6 * (more - i) & 0x3F));
    return more + 1;
}

// Class of the character at s (n > 0 bytes), and its length.
static int class_of(const Unicode *u, const uint8_t *s, size_t n, size_t *len) {
    uint32_t code = s[0];
    *len = code < 0x80 ? 1 : utf8(s, n, &code);
    return code < CODES ? u->byte[code] & 3 : OTHER;
}

// ---- pre-tokens -------------------------------------------------------------------------------------------
// GPT-2 cuts text with the regular expression
//     's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
// that is: contractions; runs of letters, of numbers, of others, each with one space before it, if any; and
// runs of white space, which leave their last character to what follows unless it is their only one. SmolLM
// first cuts every number character off as a piece of its own. What came later is cl100k_base's
//     (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*
//     |\s*[\r\n]+|\s+(?!\S)|\s+
// which lets any other character before letters, few numbers together, and lines end with their line feeds;
// Qwen2's has \p{N} in place of \p{N}{1,3}.

static bool is_later(const Tokenizer *t) { return t->kind == TOK_CL100K || t->kind == TOK_QWEN2; }

static bool is_line_end(uint8_t byte) { return byte == '\r' || byte == '\n'; }

// Length of the contraction at s (n > 0 bytes), 0: none. Of letters beyond ASCII only the long s, U+017F, is
// another letter's case.
static size_t contraction(const uint8_t *s, size_t n, bool any_case) {
    if (s[0] != '\'' || n < 2) return 0;
    uint8_t fold = any_case ? 0x20 : 0, a = s[1] | fold, b = n > 2 ? s[2] | fold : 0;
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
    if (any_case && n > 2 && s[1] == 0xC5 && s[2] == 0xBF) return 3;
    return (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
}

// Bytes of the characters of a class that s begins with, but of no more than `most`.
static size_t run(const Unicode *u, const uint8_t *s, size_t n, int class, size_t most) {
    size_t i = 0, len;
    for (; i < n && most > 0 && class_of(u, s + i, n - i, &len) == class; most--) i += len;
    return i;
}

// Length of the pre-token at s that is white space.
static size_t spaces(const Tokenizer *t, const uint8_t *s, size_t n) {
    size_t i = 0, last = 0, line = 0, len;
    int class = SPACE;
    while (i < n && (class = class_of(t->unicode, s + i, n - i, &len)) == SPACE) {
        last = i;
        i += len;
        if (is_line_end(s[last])) line = i;
    }
    if (line > 0 && is_later(t)) return line;
    return i < n && last > 0 && !(t->kind == TOK_SMOLLM && class == NUMBER) ? last : i;
}

// Length of the pre-token at s (n > 0 bytes).
static size_t pretoken(const Tokenizer *t, const uint8_t *s, size_t n) {
    static const uint8_t DIGITS[TOK_KINDS] = {[TOK_CL100K] = 3, [TOK_QWEN2] = 1, [TOK_SMOLLM] = 1};
    bool later = is_later(t), space = s[0] == ' ';
    size_t first, end = contraction(s, n, later);
    if (end > 0) return end;
    int class = class_of(t->unicode, s, n, &first);
    if (class == NUMBER && DIGITS[t->kind] > 0) return run(t->unicode, s, n, NUMBER, DIGITS[t->kind]);
    size_t before = !later ? space : class == LETTER || is_line_end(s[0]) ? 0 : first;
    if ((end = run(t->unicode, s + before, n - before, LETTER, n)) > 0) return before + end;
    end = DIGITS[t->kind] > 0 ? 0 : run(t->unicode, s + space, n - space, NUMBER, n);
    if (end > 0) return space + end;
    if ((end = run(t->unicode, s + space, n - space, OTHER, n)) == 0) return spaces(t, s, n);
    for (end += space; later && end < n && is_line_end(s[end]);) end++;
    return end;
}

// ---- tables -----------------------------------------------------------------------------------------------
// Two hash tables with open addressing, which tokenizer_index makes:
//     t->slot    which merge joins left and right?      entries: its number + 1, 0: a free place
//     t->word    which token has exactly these bytes?   entries: its id + 1, marked if it is special
// The second holds the special tokens, and of the others those that can be told from their bytes alone. A
// search gives up after PROBES places: so no file can make it slow.
enum { MARK_SHIFT = 31 };

// The id of an entry of t->word, -1: it is free.
static int32_t word_id(uint32_t entry) { return (int32_t)(entry & ~(1u << MARK_SHIFT)) - 1; }

// The bytes of token id, which stay t's, and how many; none if there is no such token.
const uint8_t *tokenizer_decode(const Tokenizer *t, int32_t id, size_t *n) {
    bool known = id >= 0 && (uint32_t)id < t->vocab;
    *n = known ? t->start[id + 1] - t->start[id] : 0;
    return known ? t->bytes + t->start[id] : t->bytes;
}

static bool token_is(const Tokenizer *t, int32_t id, const uint8_t *s, size_t n) {
    size_t m;
    const uint8_t *bytes = tokenizer_decode(t, id, &m);
    return m == n && !memcmp(bytes, s, n);
}

// Places of a hash table for n entries: a power of two, at least twice as many.
static uint64_t places(uint64_t n) {
    uint64_t size = 2;
    while (size < 2 * n) size *= 2;
    return size;
}

static const uint64_t MIX = 0x9E3779B97F4A7C15u;  // 2^64 / golden ratio: any bit changes the upper half

static uint64_t hash_pair(int32_t left, int32_t right) {
    return ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * MIX;
}

// One byte more; the hash of no bytes is MIX. Of any hash the upper half tells the place.
static uint64_t hash_byte(uint64_t hash, uint8_t byte) { return (hash ^ byte) * MIX; }

static uint64_t hash_bytes(const uint8_t *s, size_t n) {
    uint64_t hash = MIX;
    for (size_t i = 0; i < n; i++) hash = hash_byte(hash, s[i]);
    return hash;
}

// The place of a pair among these merges, or the free one where it belongs, or NONE: too many others are in
// the way.
static uint32_t pair_place(const uint32_t *slot, uint32_t mask, const Merge *merge, int32_t left,
                           int32_t right) {
    uint32_t h = (uint32_t)(hash_pair(left, right) >> 32);
    for (uint32_t i = 0; i < PROBES; i++) {
        uint32_t at = (h + i) & mask, m = slot[at];
        if (m == 0 || (merge[m - 1].left == left && merge[m - 1].right == right)) return at;
    }
    return NONE;
}

// The same for the bytes of a token, whose hash is known, in t->word.
static uint32_t word_place(const Tokenizer *t, uint64_t hash, const uint8_t *s, size_t n, bool special) {
    for (uint32_t i = 0; i < PROBES; i++) {
        uint32_t at = ((uint32_t)(hash >> 32) + i) & t->wordmask, m = t->word[at];
        if (m == 0 || (m >> MARK_SHIFT == special && token_is(t, word_id(m), s, n))) return at;
    }
    return NONE;
}

// The token in t->word that has these bytes, -1: none.
static int32_t token_of(const Tokenizer *t, const uint8_t *s, size_t n, bool special) {
    uint32_t at = word_place(t, hash_bytes(s, n), s, n, special);
    return at == NONE ? -1 : word_id(t->word[at]);
}

// ---- merging ----------------------------------------------------------------------------------------------
// Symbols, each a token, are a doubly linked list. A binary heap has a key for each pair of neighbours that a
// merge joins: its rank and, below it, its position, so that the smallest key is the leftmost pair of the
// smallest rank. A merge makes the keys of neighbours stale; they stay and are recognised when they come up.
// Of n symbols there are at most n - 1 keys at first, and n - 1 merges that each take one key and add two:
// never more than 2n keys, and O(n log n) steps for any text.
typedef struct {
    int32_t id;
    uint32_t prev, next;                          // neighbours, NONE at the ends
    uint32_t merge;                               // the merge that joins it to the next, NONE: none
} Symbol;

typedef struct {
    uint64_t *key;                                // no key[i] is smaller than its parent, key[(i - 1) / 2]
    size_t n;
} Heap;

static void heap_push(Heap *h, uint64_t key) {
    size_t i = h->n++;
    for (; i > 0 && h->key[(i - 1) / 2] > key; i = (i - 1) / 2) h->key[i] = h->key[(i - 1) / 2];
    h->key[i] = key;
}

static uint64_t heap_pop(Heap *h) {
    uint64_t top = h->key[0], last = h->key[--h->n];
    size_t i = 0;
    for (size_t child = 1; child < h->n; child = 2 * i + 1) {
        if (child + 1 < h->n && h->key[child + 1] < h->key[child]) child++;
        if (h->key[child] >= last) break;
        h->key[i] = h->key[child];
        i = child;
    }
    h->key[i] = last;
    return top;
}

// Symbol i or its next one is new: which merge joins them?
static void look_up(const Tokenizer *t, Symbol *symbol, uint32_t i, Heap *heap) {
    Symbol *s = &symbol[i];
    s->merge = NONE;
    if (s->next == NONE) return;
    uint32_t at = pair_place(t->slot, t->slotmask, t->merge, s->id, symbol[s->next].id);
    if (at == NONE || t->slot[at] == 0) return;
    s->merge = t->slot[at] - 1;
    heap_push(heap, (uint64_t)t->merge[s->merge].rank << 32 | i);
}

// The symbols that n bytes begin as: byte-level each byte's token, if there is one. TOK_SCORED: each
// character's or, if there is none, its bytes'; U+2581 is a space, as SentencePiece writes one for the other.
static uint32_t symbols(const Tokenizer *t, const uint8_t *s, size_t n, Symbol *symbol) {
    bool scored = t->kind == TOK_SCORED;
    uint32_t count = 0, code;
    for (size_t i = 0, len = 1; i < n; i += len) {
        int32_t id = t->byte[s[i]];
        if (scored) {
            len = utf8(s + i, n - i, &code);
            bool space = code == 0x2581;
            id = token_of(t, space ? (const uint8_t *)" " : s + i, space ? 1 : len, false);
        }
        if (id >= 0) symbol[count++].id = id;
        else for (size_t k = i; scored && k < i + len; k++) symbol[count++].id = t->byte[s[k]];
    }
    return count;
}

// Merges n symbols, of which only the ids are set; writes those that remain to out and returns how many.
// Scratch: the symbols, and room for 2n keys.
static size_t merge(const Tokenizer *t, Symbol *symbol, uint32_t n, uint64_t *key, int32_t *out) {
    Heap heap = {key, 0};
    for (uint32_t i = 0; i < n; i++) {
        symbol[i].prev = i > 0 ? i - 1 : NONE;
        symbol[i].next = i < n - 1 ? i + 1 : NONE;
    }
    for (uint32_t i = 0; i < n; i++) look_up(t, symbol, i, &heap);
    while (heap.n > 0) {
        uint64_t least = heap_pop(&heap);
        uint32_t i = (uint32_t)least;
        Symbol *left = &symbol[i];
        if (left->merge == NONE || t->merge[left->merge].rank != least >> 32) continue;    // stale
        Symbol *right = &symbol[left->next];
        right->merge = NONE;                      // gone
        left->id = t->merge[left->merge].result;
        left->next = right->next;
        if (left->next != NONE) symbol[left->next].prev = i;
        look_up(t, symbol, i, &heap);
        if (left->prev != NONE) look_up(t, symbol, left->prev, &heap);
    }
    size_t count = 0;
    for (uint32_t i = n > 0 ? 0 : NONE; i != NONE; i = symbol[i].next) out[count++] = symbol[i].id;
    return count;
}

// ---- form NFC ---------------------------------------------------------------------------------------------
// What looks alike and means the same may be written in several ways: e with an acute accent is one character
// or two. Form NFC (Unicode Standard Annex 15) is one way for each: all is split as far as can be, the marks
// after a character are put in the order of their ranks, and joined with it unless one of the same rank stays
// between. Only marks and ACTIVE characters can change; so only they are taken, with the one before them.

static uint32_t rank_of(const Unicode *u, uint32_t code) {
    return code < CODES ? u->byte[code] >> RANK_SHIFT : 0;
}

// The place of a rule in u->rule, or the free one where it belongs.
static uint32_t rule_place(const Unicode *u, uint32_t first, uint32_t second) {
    uint32_t at = (uint32_t)(hash_pair((int32_t)first, (int32_t)second) >> 32) % PLACES;
    for (const Rule *p; (p = &u->rule[at])->to && (p->first != first || p->second != second);)
        at = (at + 1) % PLACES;
    return at;
}

// The character that two become, NONE: they stay two. Hangul's syllables are counted: 28 for each pair of
// leading consonant and vowel, the first of them without a trailing consonant.
static uint32_t joined(const Unicode *u, uint32_t first, uint32_t second) {
    uint32_t lead = first - 0x1100, vowel = second - 0x1161;
    uint32_t syllable = first - 0xAC00, trail = second - 0x11A8;
    if (lead < 19 && vowel < 21) return 0xAC00 + (lead * 21 + vowel) * 28;
    if (syllable < 11172 && syllable % 28 == 0 && trail < 27) return first + trail + 1;
    uint32_t to = u->rule[rule_place(u, first, second)].to;
    return to ? to : NONE;
}

// From PACKED.
static void unpack_unicode(Unicode *u) {
    Packed p = {PACKED, PACKED[0]};
    uint32_t key[SECONDS], code = 0, first = 0, same = 0, v = 0;
    memset(u, 0, sizeof *u);                      // analyzer: train_parts gives NULL where it only counts
    unpack_runs(&p, u->byte, 0);
    unpack_runs(&p, u->byte, RANK_SHIFT);
    for (int i = 0; i < SECONDS; i++) key[i] = unpack(&p);
    for (int i = 0; i < SPLITS; i++, code++) {
        if (same-- == 0) {
            v = unpack(&p);
            code += v / SECONDS;
            same = v % SECONDS == 0 ? unpack(&p) : 0;
        }
        uint32_t second = key[v % SECONDS] / 2, step = unpack(&p);
        bool never = key[v % SECONDS] % 2;        // these two are not joined
        first += step % 2 ? (step + 1) / 2 : 0 - step / 2;
        u->rule[rule_place(u, code, NONE)] = (Rule){code, NONE, first, second};
        if (!never) u->rule[rule_place(u, first, second)] = (Rule){first, second, code, 0};
        uint8_t *byte = &u->byte[never ? code : second];
        if (*byte >> RANK_SHIFT == 0) *byte |= ACTIVE << RANK_SHIFT;
    }
    for (code = 0; code < 21; code++) u->byte[0x1161 + code] |= ACTIVE << RANK_SHIFT;    // Hangul: see joined
    for (code = 0; code < 27; code++) u->byte[0x11A8 + code] |= ACTIVE << RANK_SHIFT;
}

typedef struct {
    const Unicode *u;
    uint8_t *out;                                 // text in form NFC, behind which come base and marks
    size_t bytes;
    uint32_t base;                                // the last character that is no mark, NONE: none
    uint32_t *mark;                               // marks after it that are in order, and stay
    size_t marks, pushed;
    Heap heap;                                    // other marks; the lowest bits are the code
} Normal;

// Adds a character that is not split any further; NONE: the end. One that is no mark settles those before it.
static void add_part(Normal *w, uint32_t code) {
    uint64_t rank = rank_of(w->u, code), last = 0;
    if (rank > 0 && rank < ACTIVE) {
        heap_push(&w->heap, rank << 53 | (uint64_t)w->pushed++ << 21 | code);
        return;
    }
    while (w->heap.n > 0) {
        uint64_t key = heap_pop(&w->heap);
        uint32_t mark = key & 0x1FFFFF, both = key >> 53 > last ? joined(w->u, w->base, mark) : NONE;
        if (both != NONE) w->base = both;
        else {
            w->mark[w->marks++] = mark;
            last = key >> 53;
        }
    }
    uint32_t both = w->marks == 0 && code != NONE ? joined(w->u, w->base, code) : NONE;
    if (both == NONE && w->base != NONE) w->bytes += utf8_put(w->out + w->bytes, w->base);
    for (size_t i = 0; i < w->marks; i++) w->bytes += utf8_put(w->out + w->bytes, w->mark[i]);
    w->marks = 0;
    w->base = both != NONE ? both : code;
}

// No character is more than four, and only the first of two is split again: dev/unicode.py checks that.
static void add_character(Normal *w, uint32_t code) {
    uint32_t part[3];
    int parts = 0;
    for (const Rule *p; (p = &w->u->rule[rule_place(w->u, code, NONE)])->to; code = p->to)
        if (p->more) part[parts++] = p->more;
    add_part(w, code);
    while (parts > 0) add_part(w, part[--parts]);
}

// Adds n bytes that stay as they are.
static void add_plain(Normal *w, const uint8_t *s, size_t n) {
    add_part(w, NONE);
    memcpy(w->out + w->bytes, s, n);
    w->bytes += n;
}

// *n bytes in form NFC, and their number: s itself if nothing can change, else out (3n). What is no UTF-8
// stays as it is. heap: scratch (3n).
static const uint8_t *normal_form(const Unicode *u, const uint8_t *s, size_t *n, uint8_t *out,
                                  uint64_t *heap) {
    Normal w = {.u = u, .out = out, .base = NONE, .mark = (uint32_t *)(heap + 2 * *n), .heap = {heap, 0}};
    uint32_t code = NONE, last;
    uint8_t top = 0;
    for (size_t i = 0; i < *n; i++) if (s[i] > top) top = s[i];
    if (top < 0xCC) return s;                     // active characters begin at U+0300, which is CC 80
    size_t done = 0, i = 0, before, len;          // s[0..done) is in out, or in w; last is s[before..i)
    for (len = 0; i + len < *n;) {
        before = i;
        last = code;
        i += len;
        len = utf8(s + i, *n - i, &code);
        if (rank_of(u, code) == 0) continue;
        if (i > done) add_plain(&w, s + done, (last == NONE ? i : before) - done);
        if (i > done && last != NONE) add_character(&w, last);
        add_character(&w, code);
        done = i + len;
    }
    add_plain(&w, s + done, *n - done);
    *n = w.bytes;
    return out;
}

// ---- special tokens ---------------------------------------------------------------------------------------

// The longest special token at s (n bytes), -1: none.
static int32_t special_at(const Tokenizer *t, const uint8_t *s, size_t n) {
    int32_t longest = -1;
    uint64_t hash = MIX;
    for (size_t i = 0; i < n && i < t->longest[s[0]]; i++) {
        hash = hash_byte(hash, s[i]);
        uint32_t at = word_place(t, hash, s, i + 1, true);
        if (at != NONE && t->word[at] > 0) longest = word_id(t->word[at]);
    }
    return longest;
}

// The special token that is this text, -1: none.
int32_t tokenizer_find(const Tokenizer *t, const char *special) {
    return token_of(t, (const uint8_t *)special, strlen(special), true);
}

// ---- index ------------------------------------------------------------------------------------------------

// t->slot and t->word, then the Unicode tables.
size_t tokenizer_index_size(uint32_t vocab, uint32_t merges) {
    return to_size(4 * (places(merges) + places(vocab)) + sizeof(Unicode));
}

// Counts, ids, starts and flags, in an order in which nothing is used before it is checked.
static int check_tokens(const Tokenizer *t, Fault *f) {
    bool none = t->kind == TOK_NONE;
    int64_t vocab = t->vocab;
    if (check(f, "tokenizer: kind", (int64_t)t->kind, TOK_NONE, TOK_KINDS - 1) ||
        check(f, "tokenizer: tokens", vocab, none ? 0 : 256, none ? 0 : VOCAB_MAX) ||
        check(f, "tokenizer: merges", t->merges, 0, none ? 0 : MERGES_MAX) ||
        check(f, "tokenizer: end-of-text id", t->eot, -1, vocab - 1) ||
        check(f, "tokenizer: begin-of-text id", t->bos, -1, vocab - 1) ||
        (!none && check(f, "tokenizer: start of the first token", t->start[0], 0, 0)))
        return -1;
    int flags = t->kind == TOK_SCORED ? TOKEN_BYTE : TOKEN_SPECIAL;
    const int64_t least[] = {1, 0, 1}, most[] = {UINT32_MAX, SPECIAL_BYTES, 1};    // bytes, by flag
    for (uint32_t i = 0; i < t->vocab; i++) {
        uint32_t from = t->start[i], to = t->start[i + 1];
        if (check(f, "tokenizer: flag of a token", t->flag[i], 0, flags) ||
            check(f, "tokenizer: end of a token", to, from, UINT32_MAX) ||
            check(f, "tokenizer: bytes of a token", to - from, least[t->flag[i]], most[t->flag[i]]))
            return -1;
    }
    const int want = TOKEN_SPECIAL;
    if (t->eot >= 0 && check(f, "tokenizer: flag of end-of-text", t->flag[t->eot], want, want)) return -1;
    return t->bos >= 0 ? check(f, "tokenizer: flag of begin-of-text", t->flag[t->bos], want, want) : 0;
}

// Are merge m's tokens there, none of them special, and is its result left followed by right?
static bool is_sound(const Tokenizer *t, const Merge *m) {
    const int32_t id[3] = {m->left, m->right, m->result};
    for (int i = 0; i < 3; i++)
        if (id[i] < 0 || (uint32_t)id[i] >= t->vocab || t->flag[id[i]] == TOKEN_SPECIAL) return false;
    size_t n, left;
    const uint8_t *s = tokenizer_decode(t, m->result, &n);
    tokenizer_decode(t, m->left, &left);
    return left <= n && token_is(t, m->left, s, left) && token_is(t, m->right, s + left, n - left);
}

// t->slot: all merges. A fault tells how many were sound, the next one being wrong or there twice.
static int index_merges(const Tokenizer *t, uint32_t *slot, Fault *f) {
    for (uint32_t i = 0; i < t->merges; i++) {
        const Merge *m = &t->merge[i];
        uint32_t at = NONE;
        if (is_sound(t, m)) at = pair_place(slot, t->slotmask, t->merge, m->left, m->right);
        if (at == NONE || slot[at]) return check(f, "tokenizer: sound merges", i, t->merges, t->merges);
        slot[at] = i + 1;
    }
    return 0;
}

// t->byte and t->longest. Byte-level vocabularies may lack some bytes.
static int index_bytes(Tokenizer *t, Fault *f) {
    int found = 0, flag = t->kind == TOK_SCORED ? TOKEN_BYTE : TOKEN_NORMAL;
    for (int i = 0; i < 256; i++) t->byte[i] = -1;
    for (int32_t i = 0; i < (int32_t)t->vocab; i++) {
        size_t n;
        const uint8_t *s = tokenizer_decode(t, i, &n);
        if (t->flag[i] == TOKEN_SPECIAL && n > 0 && n > t->longest[*s]) t->longest[*s] = (uint8_t)n;
        if (t->flag[i] != flag || n != 1 || t->byte[*s] >= 0) continue;
        t->byte[*s] = i;
        found++;
    }
    return check(f, "tokenizer: single bytes that are tokens", found, t->kind == TOK_SCORED ? 256 : 1, 256);
}

// Is token i to be in t->word? Special ones are, but for empty ones, which only fill a vocabulary; others if
// their bytes alone tell them. TOK_SCORED: if they are one character, which then begins as it. TOK_CL100K:
// always. Else if they merge to it; so a common pre-token costs one search instead of several for each byte.
static bool is_word(const Tokenizer *t, int32_t i) {
    Symbol symbol[WORD_BYTES];
    uint64_t key[2 * WORD_BYTES];
    int32_t out[WORD_BYTES];
    uint32_t code;
    size_t n;
    const uint8_t *s = tokenizer_decode(t, i, &n);
    if (t->flag[i] != TOKEN_NORMAL) return t->flag[i] == TOKEN_SPECIAL && n > 0;
    if (t->kind == TOK_CL100K) return true;
    if (t->kind == TOK_SCORED) return utf8(s, n, &code) == n && code != NONE;
    return n <= WORD_BYTES && merge(t, symbol, symbols(t, s, n, symbol), key, out) == 1 && out[0] == i;
}

// t->word; of tokens with equal bytes the smallest id.
static int index_words(const Tokenizer *t, uint32_t *word, Fault *f) {
    for (int32_t i = 0; i < (int32_t)t->vocab; i++) {
        if (!is_word(t, i)) continue;
        size_t n;
        const uint8_t *s = tokenizer_decode(t, i, &n);
        uint32_t special = t->flag[i] == TOKEN_SPECIAL, at = word_place(t, hash_bytes(s, n), s, n, special);
        if (at == NONE) return check(f, "tokenizer: tokens whose hashes differ", i, t->vocab, t->vocab);
        if (word[at] == 0) word[at] = (uint32_t)i + 1 + (special << MARK_SHIFT);
    }
    return 0;
}

// The caller warrants that the arrays are as long as vocab, merges and start[vocab] say.
int tokenizer_index(Tokenizer *t, void *memory, Fault *f) {
    if (check_tokens(t, f)) return -1;
    uint32_t *slot = memory, *word = slot + places(t->merges);
    Unicode *unicode = (Unicode *)(word + places(t->vocab));
    memset(memory, 0, tokenizer_index_size(t->vocab, t->merges));
    memset(t->longest, 0, sizeof t->longest);
    t->slot = slot;
    t->slotmask = (uint32_t)places(t->merges) - 1;
    t->word = word;
    t->wordmask = (uint32_t)places(t->vocab) - 1;
    t->unicode = unicode;
    if (t->kind == TOK_NONE) return 0;
    unpack_unicode(unicode);
    return index_bytes(t, f) || index_merges(t, slot, f) || index_words(t, word, f) ? -1 : 0;
}

// ---- as bytes ---------------------------------------------------------------------------------------------
// For each token where its bytes end, for each merge left, right, result, rank, all as u32; a flag for each
// token; the bytes of all tokens. Numbers are little-endian.

void words_turn(void *words, size_t fours, size_t eights) {
    uint8_t *p = words;
    for (; fours > 0; fours--, p += 4) {
        uint32_t v = p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
        memcpy(p, &v, sizeof v);
    }
    for (; eights > 0; eights--, p += 8) {
        uint64_t v = 0;
        for (int i = 8; i-- > 0;) v = v << 8 | p[i];
        memcpy(p, &v, sizeof v);
    }
}

uint64_t tokenizer_bytes(const Tokenizer *t) {
    return 5 * (uint64_t)t->vocab + 16 * (uint64_t)t->merges + (t->start ? t->start[t->vocab] : 0);
}

void tokenizer_put(const Tokenizer *t, uint8_t *p) {
    size_t vocab = t->vocab, merges = t->merges;
    if (vocab == 0) return;
    memcpy(p, t->start + 1, 4 * vocab);
    if (merges > 0) memcpy(p + 4 * vocab, t->merge, 16 * merges);
    words_turn(p, vocab + 4 * merges, 0);
    memcpy(p += 4 * vocab + 16 * merges, t->flag, vocab);
    memcpy(p + vocab, t->bytes, t->start[vocab]);
}

int tokenizer_get(Tokenizer *t, uint8_t *p, uint64_t bytes, void *index, Fault *f) {
    uint32_t *start = (uint32_t *)(void *)(p - 4);
    t->start = NULL;
    int64_t text = (int64_t)(bytes - tokenizer_bytes(t));
    words_turn(p, t->vocab + 4 * (size_t)t->merges, 0);
    start[0] = 0;
    t->start = start;
    t->merge = (const Merge *)(const void *)(start + 1 + t->vocab);
    t->flag = (const uint8_t *)(t->merge + t->merges);
    t->bytes = t->flag + t->vocab;
    if (check(f, "end of the last token", start[t->vocab], text, text)) return -1;
    return tokenizer_index(t, index, f);
}

// ---- encode -----------------------------------------------------------------------------------------------

// An id for each byte, of which form NFC can make three, and one for add_space.
size_t tokenizer_most(const Tokenizer *t, size_t n) {
    return n > TEXT_MAX ? SIZE_MAX : to_size((t->kind == TOK_QWEN2 ? 3 : 1) * (uint64_t)n + 1);
}

// Bytes at the front of the scratch for the text in form NFC, a multiple of 8.
static size_t normal_room(const Tokenizer *t, size_t n) {
    return t->kind == TOK_QWEN2 ? (3 * n + 7) / 8 * 8 : 0;
}

// Scratch for the worst case, a text that is one pre-token; what short ones do not need is not touched.
size_t tokenizer_encode_size(const Tokenizer *t, size_t n) {
    uint64_t most = tokenizer_most(t, n);
    uint64_t merging = most * (sizeof(Symbol) + 2 * sizeof(uint64_t));
    return most > NONE ? SIZE_MAX : to_size(normal_room(t, n) + merging);
}

// n bytes without special tokens. Byte-level: each pre-token by itself, most of them found whole. TOK_SCORED:
// all as one, behind a space if there is to be one.
static size_t encode_plain(const Tokenizer *t, const uint8_t *s, size_t n, bool space, int32_t *out,
                           Symbol *symbol) {
    bool scored = t->kind == TOK_SCORED;
    size_t count = 0, len;
    for (size_t i = 0; i < n; i += len) {
        len = scored ? n : pretoken(t, s + i, n - i);
        bool whole = t->kind == TOK_CL100K || (len <= WORD_BYTES && !scored);
        int32_t id = whole ? token_of(t, s + i, len, false) : -1;
        uint32_t m = space ? symbols(t, (const uint8_t *)" ", 1, symbol) : 0;
        if (id >= 0) out[count++] = id;
        else {
            m += symbols(t, s + i, len, symbol + m);
            count += merge(t, symbol, m, (uint64_t *)(symbol + m), out + count);
        }
    }
    return count;
}

// add_space puts its space before the first text that is not a special token.
size_t tokenizer_encode(const Tokenizer *t, const uint8_t *text, size_t n, bool special, int32_t *out,
                        void *scratch) {
    bool space = t->add_space && t->kind == TOK_SCORED;
    Symbol *symbol = (Symbol *)(void *)((uint8_t *)scratch + normal_room(t, n));
    size_t count = 0, stop, len;
    for (size_t i = 0; i < n; i = stop + len) {   // text[i..stop) is plain, then comes the special token id
        int32_t id = -1;
        for (stop = special ? i : n; stop < n; stop++)
            if ((id = special_at(t, text + stop, n - stop)) >= 0) break;
        if (stop > i && t->kind != TOK_NONE) {
            const uint8_t *s = text + i;
            size_t m = stop - i;
            if (t->kind == TOK_QWEN2) s = normal_form(t->unicode, s, &m, scratch, (uint64_t *)symbol);
            count += encode_plain(t, s, m, space, out + count, symbol);
            space = false;
        }
        tokenizer_decode(t, id, &len);
        if (id >= 0) out[count++] = id;
    }
    return count;
}

// ---- templates --------------------------------------------------------------------------------------------
// How a conversation becomes text is the model's business as much as how text becomes tokens. A template is
// parsed to pieces once and checked; then rendering a row cannot fail but for lack of memory.
enum { NAME_BYTES = 64 };
static const char *const FIELD[FIELDS] = {"instruction", "output", "input", "text"};
static const bool HAS[PARTS][FIELDS] = {                     // which of them may stand in a part
    [ROLE_SYSTEM] = {[TURN] = true}, [ROLE_USER] = {[TURN] = true, [INPUT] = true},
    [ROLE_ASSISTANT] = {[TURN] = true},
    [PART_WHOLE] = {[INSTRUCTION] = true, [INPUT] = true, [OUTPUT] = true}};
static const char *const SECTION[PART_WHOLE] = {"[system]", "[user]", "[assistant]", "[default]"};

// What is wrong with byte `at` of a template: no number lies in 1..0.
static int wrong(Fault *f, const char *what, size_t at) { return check(f, what, (int64_t)at, 1, 0); }

const char *template_named(const char *name) {
    static const char *const known[][2] = {
        {"alpaca",
         "Below is an instruction that describes a task{?input}, paired with an input that provides further "
         "context{/}. Write a response that appropriately completes the request.\n\n### Instruction:\n"
         "{instruction}\n\n{?input}### Input:\n{input}\n\n{/}### Response:\n{target}{output}{eot}"},
        {"chatml",
         "[system]\n{<|im_start|>}system\n{text}{<|im_end|>}\n\n"
         "[user]\n{<|im_start|>}user\n{text}{<|im_end|>}\n\n"
         "[assistant]\n{<|im_start|>}assistant\n{target}{text}{<|im_end|>}\n\n"},
        {"llama3",
         "[system]\n{<|start_header_id|>}system{<|end_header_id|>}\n\n{text}{<|eot_id|>}\n"
         "[user]\n{<|start_header_id|>}user{<|end_header_id|>}\n\n{text}{<|eot_id|>}\n"
         "[assistant]\n{<|start_header_id|>}assistant{<|end_header_id|>}\n\n{target}{text}{<|eot_id|>}\n"},
        {"plain", "{?instruction}{instruction}\n{/}{?input}{input}\n{/}Answer:{target} {output}{eot}"},
        {"none", "{?instruction}{instruction}\n{/}{?input}{input}\n{/}{target}{output}{eot}"}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(name, known[i][0])) return known[i][1];
    return NULL;
}

// What stands between braces.
static int piece_named(Template *tp, TemplatePiece *p, const char *name, int part, const Tokenizer *t,
                       Fault *f) {
    bool eot = !strcmp(name, "eot"), asked = *name == '?';
    if (eot || *name == '<') {
        p->kind = PIECE_SPECIAL;
        p->token = eot ? t->eot : tokenizer_find(t, name);
        if (p->token >= 0) return 0;
        return wrong(f, "the tokenizer has no such special token: want another template", p->at);
    }
    p->kind = !strcmp(name, "target") ? PIECE_TARGET : !strcmp(name, "/") ? PIECE_ENDIF
            : asked ? PIECE_IF : PIECE_FIELD;
    if (p->kind == PIECE_TARGET || p->kind == PIECE_ENDIF) return 0;
    for (; p->field < FIELDS; p->field++) {
        if (!HAS[part][p->field] || strcmp(name + asked, FIELD[p->field])) continue;
        if (!asked) tp->has[p->field] = true;
        return 0;
    }
    const char *unknown = "unknown here: want {text}, in [user] {input}, {target} {eot} {<|name|>} "
                          "{?input} {/} or {{";
    if (part == PART_WHOLE)
        unknown = "unknown: want {instruction} {input} {output} {target} {eot} {<|name|>} {?input} {/} or {{";
    return wrong(f, unknown, p->at);
}

// Does a part hold its text, and the one with the answer make it something that the model can learn to end?
static int part_check(Template *tp, int part, Fault *f) {
    bool asks = part == ROLE_ASSISTANT || part == PART_WHOLE, text = part == PART_DEFAULT;
    size_t last = tp->pieces > 0 ? tp->piece[tp->pieces - 1].at : 0;
    int wanted = part == PART_WHOLE ? OUTPUT : TURN;
    for (int i = tp->begin[part]; i < tp->end[part]; i++) {
        const TemplatePiece *p = &tp->piece[i];
        bool here = !p->inside, words = p->kind == PIECE_FIELD && p->field == wanted;
        if (p->kind == PIECE_TARGET && (!asks || !here || tp->target))
            return wrong(f, "want one {target}, where the answer is and outside of {?...}", p->at);
        if (p->kind == PIECE_TARGET) tp->target = i + 1;
        if (words && asks && !tp->target)
            return wrong(f, "the answer before {target} would give it away", p->at);
        if (words && asks && here) tp->turn_end = 0;           // it comes after the last of them
        text = text || (words && here);
        if (asks && text && here && p->kind == PIECE_SPECIAL && !tp->turn_end) tp->turn_end = i + 1;
    }
    if (!asks) return text ? 0 : wrong(f, "the section before this has no {text} outside of {?...}", last);
    if (!tp->target || !text)
        return wrong(f, "no {target} and answer before this: want it to end with {target}{output}{eot}",
                     last);
    if (part == PART_WHOLE) tp->turn_end = tp->piece[tp->pieces - 1].kind == PIECE_SPECIAL ? tp->pieces : 0;
    if (!tp->turn_end)
        return wrong(f, "the answer does not end with a special token: want {eot} behind it", last);
    if (part != PART_WHOLE || tp->has[INSTRUCTION] || tp->has[INPUT]) return 0;
    return wrong(f, "no place for what is asked before this: want {instruction}, {input} or both", last);
}

// A part's text, from s up to end, to pieces.
static int part_parse(Template *tp, int part, const char *s, const char *end, const Tokenizer *t, Fault *f) {
    bool open = false;                // is there a {?...} without its {/}?
    tp->begin[part] = tp->pieces;
    for (size_t n; s < end; tp->pieces++, s += n) {
        TemplatePiece *p = &tp->piece[tp->pieces];
        const char *brace = memchr(s, '{', (size_t)(end - s));
        char name[NAME_BYTES] = "";
        size_t at = (size_t)(s - tp->text);
        if (tp->pieces == PIECES_MAX) return wrong(f, "more than 256 pieces", at);
        *p = (TemplatePiece){.at = at};
        n = (size_t)((brace ? brace : end) - s);
        if (n > 0 || s[1] == '{') {
            p->kind = PIECE_TEXT;
            p->n = n > 0 ? n : 1;
            if (n == 0) n = 2;
            continue;
        }
        const char *close = memchr(s, '}', (size_t)(end - s));
        n = close ? (size_t)(close - s) + 1 : 0;
        if (n == 0 || n - 1 > sizeof name) return wrong(f, "'{' without '}': {{ is a brace", at);
        memcpy(name, s + 1, n - 2);
        if (piece_named(tp, p, name, part, t, f)) return -1;
        if (p->kind == PIECE_IF && open) return wrong(f, "{?...} before the {/} of another", at);
        if (p->kind == PIECE_ENDIF && !open) return wrong(f, "{/} without {?...}", at);
        if (p->kind == PIECE_IF || p->kind == PIECE_ENDIF) open = !open;
        p->inside = open;
    }
    tp->end[part] = tp->pieces;
    return open ? wrong(f, "{?...} without {/}", tp->piece[tp->pieces - 1].at) : part_check(tp, part, f);
}

// The part that a line begins; PART_WHOLE: it is [word], but there is no such part; -1: it is another line.
static int section_line(const char *s, const char **next) {
    size_t n = strcspn(s, "\n"), word = strspn(s + (*s == '['), "abcdefghijklmnopqrstuvwxyz");
    int part = 0;
    *next = s + n + (s[n] == '\n');
    if (*s != '[' || word == 0 || word + 2 != n || s[n - 1] != ']') return -1;
    while (part < PART_WHOLE && (strlen(SECTION[part]) != n || strncmp(s, SECTION[part], n))) part++;
    return part;
}

bool template_has_sections(const char *template) {
    const char *next;
    int part = section_line(template, &next);
    return part >= 0 && part != PART_WHOLE;
}

int template_parse(Template *tp, const char *template, const Tokenizer *t, Fault *f) {
    *tp = (Template){.text = template};
    for (int i = 0; i < PARTS; i++) tp->begin[i] = tp->end[i] = -1;
    if (!template_has_sections(template))
        return part_parse(tp, PART_WHOLE, template, template + strlen(template), t, f);
    for (const char *s = template, *body, *end, *next; *s; s = end) {
        int part = section_line(s, &body);
        if (part == PART_WHOLE || tp->begin[part] >= 0)
            return wrong(f, "want each of the lines [default] [system] [user] [assistant] once, "
                         "and no other such",
                         (size_t)(s - template));
        for (end = body; *end && section_line(end, &next) < 0;) end = next;
        if (part_parse(tp, part, body, end - (end > body && end[-1] == '\n'), t, f)) return -1;
    }
    if (tp->begin[ROLE_USER] >= 0 && tp->begin[ROLE_ASSISTANT] >= 0) return 0;
    return wrong(f, "want sections [user] and [assistant]", strlen(template));
}

const char *template_misfit(const Template *tp, const Turn *turn, size_t turns) {
    bool whole = tp->begin[PART_WHOLE] >= 0;
    if (turn->role == ROLE_SYSTEM && (whole || tp->begin[ROLE_SYSTEM] < 0))
        return "has a system turn, the template no [system]\nhint: --template chatml; or, if it is from a "
               "member of that name, --columns system=";
    if (!whole) return NULL;
    if (turns > 2) return "is a conversation, which the template is not for\nhint: --template chatml";
    if (*turn->input && !tp->has[INPUT]) return "has an input, the template no {input}";
    return *turn->text && !tp->has[INSTRUCTION] ? "has an instruction, the template no {instruction}" : NULL;
}

// ---- rendering --------------------------------------------------------------------------------------------
// Text is collected, across parts too, until a special token or {target} ends its segment, which is then
// encoded as one: tokens never depend on where a template's pieces meet.
typedef struct {                      // a row on its way to ids
    Rendering *out;
    const Template *tp;
    Tokenizer tok;                    // a copy: add_space is for the first text of a row only
    Teach teach;
    bool teaching;                    // are the ids that come now taught?
    size_t n;                         // bytes of the segment at hand
} Renderer;

static void segment_add(Renderer *r, const char *text, size_t n) {
    Rendering *out = r->out;
    if (out->text) memcpy(out->text + r->n, text, n);
    r->n = n < SIZE_MAX - r->n ? r->n + n : SIZE_MAX;
    if (r->n > out->bytes) out->bytes = r->n;
}

static void ids_add(Renderer *r, size_t n) {
    Rendering *out = r->out;
    if (out->taught) memset(out->taught + out->ids, r->teaching, n);
    out->ids = n < SIZE_MAX - out->ids ? out->ids + n : SIZE_MAX;
}

static void segment_end(Renderer *r) {
    Rendering *out = r->out;
    if (r->n == 0) return;
    size_t n = out->tok
             ? tokenizer_encode(&r->tok, out->text, r->n, false, out->tok + out->ids, out->scratch)
             : tokenizer_most(&r->tok, r->n);
    ids_add(r, n);
    r->tok.add_space = false;
    r->n = 0;
}

static void id_add(Renderer *r, int32_t id) {
    segment_end(r);
    if (r->out->tok) r->out->tok[r->out->ids] = id;
    ids_add(r, 1);
}

// {target}: from here on it is taught, and with TEACH_LAST what came before no longer is.
static void target_begin(Renderer *r) {
    Rendering *out = r->out;
    segment_end(r);
    out->prompt = out->ids;
    if (r->teach == TEACH_LAST && out->taught) memset(out->taught, 0, out->prompt);
    r->teaching = r->teach != TEACH_NONE;
}

// A field; without an {input} the input follows the {text} on a line of its own.
static void field_add(Renderer *r, const char *text, const char *input) {
    segment_add(r, text, strlen(text));
    if (*text && *input) segment_add(r, "\n", 1);
    segment_add(r, input, strlen(input));
}

// Pieces of a part, up to `end`.
static void part_render(Renderer *r, int part, int end, const Turn *turn, const char *output) {
    const Template *tp = r->tp;
    const char *field[FIELDS] = {turn->text, output, turn->input, turn->text};
    bool hidden = false;              // by a {?...} whose field is empty
    for (int i = tp->begin[part]; i < end; i++) {
        const TemplatePiece *p = &tp->piece[i];
        bool both = p->field == TURN && !tp->has[INPUT];
        if (p->kind == PIECE_IF) hidden = !*field[p->field];
        else if (p->kind == PIECE_ENDIF) hidden = false;
        else if (hidden) continue;
        else if (p->kind == PIECE_TEXT) segment_add(r, tp->text + p->at, p->n);
        else if (p->kind == PIECE_FIELD) field_add(r, field[p->field], both ? turn->input : "");
        else if (p->kind == PIECE_SPECIAL) id_add(r, p->token);
        else target_begin(r);
        if (i + 1 == tp->turn_end) r->teaching = r->teach == TEACH_ALL;
    }
}

void template_render(Rendering *out, const Template *tp, const Tokenizer *t, const Turn *turn, size_t turns,
                     size_t skip, Teach teach) {
    static const Turn none = {ROLE_ASSISTANT, "", ""};
    Renderer r = {out, tp, *t, teach, teach == TEACH_ALL, 0};
    size_t first = turn->role == ROLE_SYSTEM;
    int part = tp->begin[PART_WHOLE] < 0 ? ROLE_ASSISTANT : PART_WHOLE;
    int opening = first ? ROLE_SYSTEM : PART_DEFAULT;
    out->ids = out->bytes = out->prompt = 0;
    if (t->bos >= 0) id_add(&r, t->bos);
    part_render(&r, opening, tp->end[opening], turn, "");
    for (size_t i = first + 2 * skip; i < turns; i += 2) {
        const Turn *user = &turn[i], *answer = i + 1 < turns ? user + 1 : &none;
        int end = i + 2 < turns ? tp->end[part] : teach == TEACH_NONE ? tp->target : tp->turn_end;
        part_render(&r, ROLE_USER, tp->end[ROLE_USER], user, "");
        part_render(&r, part, end, part == PART_WHOLE ? user : answer, answer->text);
    }
}

// ---- train ------------------------------------------------------------------------------------------------
// Only distinct pre-tokens are kept, one behind the other in w->piece. The first piece of each is, as a
// negative number, how many copies the text has; then come its tokens, at first one for each byte. All pairs
// of neighbours are counted once. Then each merge goes over all pieces, and counts only what it changes. A
// pre-token that has become one token has no pairs any more, and goes.
typedef struct {
    Tokenizer *t;                                 // what was learned so far; its arrays, for writing:
    uint32_t *start;
    uint8_t *flag, *bytes;
    Merge *merge;
    Unicode *unicode;
    int32_t *piece;                               // (2n + 1) the last one, behind them, is -1
    Merge *pair;                                  // neighbours, left and right; rank: how often they are
    uint32_t *word, *slot;                        // hash tables: pre-token -> its first token; pair -> + 1
    uint32_t wordmask, slotmask, pieces, pairs;
} Training;

// Most pairs that there can be. A merge makes two at most for each piece that it takes away.
static uint64_t pair_room(uint64_t n, uint64_t vocab) {
    uint64_t most = 3 * n < vocab * vocab ? 3 * n : vocab * vocab;
    return most < PAIRS_MAX ? most : PAIRS_MAX;
}

// Room for n elements behind the *size bytes of memory that are taken; NULL: it is only counted.
static void *part(uint8_t *memory, uint64_t *size, uint64_t n, size_t element) {
    void *at = memory ? memory + *size : NULL;
    *size += n * element;
    return at;
}

// n <= TEXT_MAX and vocab <= VOCAB_MAX: the size is below 2^37.
static uint64_t train_parts(Training *w, uint64_t n, uint64_t vocab, uint8_t *memory) {
    uint64_t size = 0;
    w->unicode = part(memory, &size, 1, sizeof *w->unicode);
    w->word = part(memory, &size, places(n / 8), sizeof *w->word);
    w->slot = part(memory, &size, places(pair_room(n, vocab)), sizeof *w->slot);
    w->start = part(memory, &size, vocab + 1, sizeof *w->start);
    w->merge = part(memory, &size, vocab, sizeof *w->merge);
    w->pair = part(memory, &size, pair_room(n, vocab), sizeof *w->pair);
    w->piece = part(memory, &size, 2 * n + 1, sizeof *w->piece);
    w->bytes = part(memory, &size, vocab, LEARNED_BYTES);
    w->flag = part(memory, &size, vocab, sizeof *w->flag);
    return size;
}

// Up to about 100 bytes for each byte of text, few of which are touched: text repeats itself.
size_t tokenizer_train_size(size_t n, uint32_t vocab) {
    Training w;
    return n > TEXT_MAX || vocab > VOCAB_MAX ? SIZE_MAX : to_size(train_parts(&w, n, vocab, NULL));
}

// Are these pieces, at first a byte each, the n bytes of a whole pre-token?
static bool word_is(const int32_t *piece, const uint8_t *s, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (piece[i] != s[i]) return false;
    return piece[n] < 0;
}

// Counts one more pre-token. If too many others are in the way, it is listed twice, which changes no sum.
static void add_word(Training *w, const uint8_t *s, size_t n) {
    uint32_t hash = (uint32_t)(hash_bytes(s, n) >> 32), *place = NULL;
    for (uint32_t i = 0; i < PROBES; i++) {
        place = &w->word[(hash + i) & w->wordmask];
        if (*place == 0) break;
        if (word_is(w->piece + *place, s, n)) {
            w->piece[*place - 1]--;
            return;
        }
    }
    w->piece[w->pieces++] = -1;
    if (*place == 0) *place = w->pieces;
    for (size_t i = 0; i < n; i++) w->piece[w->pieces++] = s[i];
    w->piece[w->pieces] = -1;
}

// Counts the pre-tokens of a text. An end-of-text in it separates, and is not learned from.
static void add_text(Training *w, const uint8_t *s, size_t n) {
    size_t end = sizeof END_OF_TEXT - 1, stop, len;
    for (size_t i = 0; i < n; i = stop + end) {
        for (stop = i; stop < n; stop++)
            if (n - stop >= end && !memcmp(s + stop, END_OF_TEXT, end)) break;
        for (; i < stop; i += len) {
            len = pretoken(w->t, s + i, stop - i);
            add_word(w, s + i, len);
        }
    }
}

// This many more neighbours left and right; what is < 0 is no token. Pairs for which there is no room are
// never counted.
static void count_pair(Training *w, int32_t left, int32_t right, uint32_t more) {
    if (left < 0 || right < 0) return;
    uint32_t place = pair_place(w->slot, w->slotmask, w->pair, left, right);
    if (place == NONE || (w->slot[place] == 0 && w->pairs == (w->slotmask + 1) / 2)) return;
    if (w->slot[place] == 0) {
        w->pair[w->pairs++] = (Merge){left, right, 0, 0};
        w->slot[place] = w->pairs;
    }
    w->pair[w->slot[place] - 1].rank += more;
}

// All pairs, before any merge.
static void count_pairs(Training *w) {
    uint32_t copies = 0;
    for (const int32_t *p = w->piece; p < w->piece + w->pieces; p++) {
        if (*p < 0) copies = 0 - (uint32_t)*p;
        count_pair(w, p[0], p[1], copies);
    }
}

static uint32_t length_of(const Tokenizer *t, int32_t id) { return t->start[id + 1] - t->start[id]; }

// Order of two tokens by their bytes, as in a dictionary: < 0, 0, > 0.
static int compare_tokens(const Tokenizer *t, int32_t a, int32_t b) {
    uint32_t n = length_of(t, a), m = length_of(t, b);
    int order = memcmp(t->bytes + t->start[a], t->bytes + t->start[b], n < m ? n : m);
    return order ? order : (n > m) - (n < m);
}

// The most frequent pair; of equals the one whose bytes, left's, then right's, sort last. NULL: none occurs
// twice.
static const Merge *best_pair(const Training *w) {
    const Merge *best = NULL;
    for (const Merge *p = w->pair; p < w->pair + w->pairs; p++) {
        if (p->rank < (best ? best->rank : 2)) continue;
        if (length_of(w->t, p->left) + length_of(w->t, p->right) > LEARNED_BYTES) continue;
        if (best && p->rank == best->rank) {
            int order = compare_tokens(w->t, p->left, best->left);
            if (order == 0) order = compare_tokens(w->t, p->right, best->right);
            if (order < 0) continue;
        }
        best = p;
    }
    return best;
}

// Adds a token; its n bytes are to be written where it says.
static uint8_t *add_token(Training *w, size_t n, uint8_t flag) {
    uint32_t id = w->t->vocab++;
    w->start[id + 1] = w->start[id] + (uint32_t)n;
    w->flag[id] = flag;
    return w->bytes + w->start[id];
}

// Merges two tokens wherever they are neighbours, from left to right: of "aaa" the first two.
static void merge_pieces(Training *w, const Merge *m) {
    int32_t *piece = w->piece;
    uint32_t put = 0, copies = 0;
    for (uint32_t at = 0; at < w->pieces; at++) {
        int32_t id = piece[at];
        if (id < 0) {
            if (put > 1 && piece[put - 2] < 0) put -= 2;           // the pre-token before is one token
            copies = 0 - (uint32_t)id;
        } else if (id == m->left && piece[at + 1] == m->right) {
            int32_t before = piece[put - 1], behind = piece[at + 2];
            count_pair(w, before, m->left, 0 - copies);
            count_pair(w, m->left, m->right, 0 - copies);
            count_pair(w, m->right, behind, 0 - copies);
            count_pair(w, before, m->result, copies);
            count_pair(w, m->result, behind, copies);
            id = m->result;
            at++;
        }
        piece[put++] = id;
    }
    piece[put] = -1;
    w->pieces = put;
}

// Makes two tokens one.
static void learn(Training *w, int32_t left, int32_t right) {
    uint32_t n = length_of(w->t, left), m = length_of(w->t, right);
    Merge *new = &w->merge[w->t->merges];
    *new = (Merge){left, right, (int32_t)w->t->vocab, w->t->merges};
    w->t->merges++;
    uint8_t *bytes = add_token(w, n + m, TOKEN_NORMAL);
    memcpy(bytes, w->bytes + w->start[left], n);
    memcpy(bytes + n, w->bytes + w->start[right], m);
    merge_pieces(w, new);
}

int tokenizer_train(Tokenizer *t, const uint8_t *text, size_t n, uint32_t vocab, void *memory, Fault *f) {
    if (check(f, "tokenizer: bytes to learn from", (int64_t)(n > TEXT_MAX ? TEXT_MAX + 1u : n), 0,
              TEXT_MAX) ||
        check(f, "tokenizer: tokens to learn", vocab, 257, VOCAB_MAX)) return -1;
    Training w = {.t = t, .wordmask = (uint32_t)places(n / 8) - 1};
    train_parts(&w, n, vocab, memory);
    memset(w.word, 0, (size_t)places(n / 8) * sizeof *w.word);    // analyzer: NULL without memory, and here is some
    unpack_unicode(w.unicode);
    w.start[0] = 0;
    *t = (Tokenizer){.kind = TOK_GPT2, .eot = -1, .bos = -1, .bytes = w.bytes, .start = w.start,
                     .flag = w.flag, .merge = w.merge, .unicode = w.unicode};
    for (int i = 0; i < 256; i++) *add_token(&w, 1, TOKEN_NORMAL) = (uint8_t)i;
    add_text(&w, text, n);
    uint64_t slots = places(pair_room(w.pieces / 2, vocab));    // of the room for n bytes no more is needed
    w.slotmask = (uint32_t)slots - 1;
    memset(w.slot, 0, (size_t)slots * sizeof *w.slot);
    count_pairs(&w);
    for (const Merge *best; t->vocab < vocab - 1 && (best = best_pair(&w));)
        learn(&w, best->left, best->right);
    t->eot = (int32_t)t->vocab;
    memcpy(add_token(&w, sizeof END_OF_TEXT - 1, TOKEN_SPECIAL), END_OF_TEXT, sizeof END_OF_TEXT - 1);
    return 0;
}

// ---- text as Python has it --------------------------------------------------------------------------------

bool text_space(uint32_t c) {
    return (c >= 9 && c <= 13) || (c >= 0x1C && c <= ' ') || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
           c == 0x3000;
}

// Is the character at s, of *len bytes, white space? The 0 at the end cuts a character short, so none is read
// beyond it.
static bool space_at(const char *s, size_t *len) {
    uint32_t code;
    *len = utf8((const uint8_t *)s, 4, &code);
    return text_space(code);
}

size_t text_end(const char *s) {
    size_t last = 0;
    for (size_t i = 0, len; s[i]; i += len)
        if (!space_at(s + i, &len)) last = i + len;
    return last;
}

void text_strip(char *s) {
    size_t at = 0, end = text_end(s), len;
    while (at < end && space_at(s + at, &len)) at += len;
    memmove(s, s + at, end - at);
    s[end - at] = 0;
}

void text_capitalize(char *s) {
    for (size_t i = 0; s[i]; i++) {
        bool first = i == 0, latin1 = (unsigned char)s[i] == 0xC3 && s[i + 1];
        unsigned lo = latin1 ? 0x80 : 'A', hi = latin1 ? 0x9E : 'Z', c = (unsigned char)s[i += latin1];
        if (latin1 && (c & 0x1F) == 0x17) continue;           // the signs for times and divided by
        if (first && c >= lo + 32 && c <= hi + 32) s[i] = (char)(c - 32);
        if (!first && c >= lo && c <= hi) s[i] = (char)(c + 32);
    }
}

void text_replace(char *s, const char *old, const char *new) {
    size_t had = strlen(old), has = strlen(new);
    char *out = s;
    while (*s) {
        bool found = !strncmp(s, old, had);
        memmove(out, found ? new : s, found ? has : 1);
        out += found ? has : 1;
        s += found ? had : 1;
    }
    *out = 0;
}

void text_unbracket(char *s) {
    char *out = s, *open = NULL;      // where the first [ of this line is that is not closed
    for (; *s; s++) {
        if (*s == '[' && !open) open = out;
        if (*s == '\n') open = NULL;
        *out++ = *s;
        if (*s != ']' || !open) continue;
        out = open;
        open = NULL;
    }
    *out = 0;
}

// ---- random numbers as Python has them --------------------------------------------------------------------
// The Mersenne Twister (Matsumoto, Nishimura 1998), and what random.sample makes of it.

void twister_seed(Twister *t, uint32_t key) {      // init_by_array of one key
    uint32_t *s = t->s, i = 1;
    s[0] = 19650218;
    for (uint32_t k = 1; k < 624; k++) s[k] = 1812433253u * (s[k - 1] ^ s[k - 1] >> 30) + k;
    for (uint32_t k = 0; k < 2 * 624 - 1; k++) {
        uint32_t before = s[i - 1] ^ s[i - 1] >> 30;
        s[i] = k < 624 ? (s[i] ^ before * 1664525u) + key : (s[i] ^ before * 1566083941u) - i;
        if (++i < 624) continue;
        s[0] = s[623];
        i = 1;
    }
    s[0] = 0x80000000u;
    t->at = 624;
}

uint32_t twister_next(Twister *t) {
    for (int i = 0; i < 624 && t->at == 624; i++) {
        uint32_t y = (t->s[i] & 0x80000000u) | (t->s[(i + 1) % 624] & 0x7FFFFFFFu);
        t->s[i] = t->s[(i + 397) % 624] ^ y >> 1 ^ (y & 1 ? 0x9908B0DFu : 0);
    }
    t->at = t->at % 624;
    uint32_t y = t->s[t->at++];
    y ^= y >> 11;
    y ^= y << 7 & 0x9D2C5680u;
    y ^= y << 15 & 0xEFC60000u;
    return y ^ y >> 18;
}

static uint32_t twister_below(Twister *t, uint32_t n) {
    int bits = 0;
    while (bits < 32 && n >> bits) bits++;
    uint32_t r = n;
    while (r >= n) r = twister_next(t) >> (32 - bits);
    return r;
}

void twister_sample(Twister *t, uint32_t n, uint32_t k, uint32_t *out) {
    uint32_t few = 21, pool[21 + 1024], power = 4;
    while (power < 3 * k) power *= 4;
    if (k > 5) few += power;
    for (uint32_t i = 0; i < n && n <= few; i++) pool[i] = i;
    for (uint32_t i = 0, j, seen = 0; i < k; i += n <= few || seen == i) {
        j = twister_below(t, n <= few ? n - i : n);
        out[i] = n <= few ? pool[j] : j;
        if (n <= few) pool[j] = pool[n - i - 1];  // NOLINT(*uninitialized.Assign): the first n are
        for (seen = 0; seen < i && out[seen] != j;) seen++;
    }
}

// ---- hashes -----------------------------------------------------------------------------------------------
// FNV-1a over the bytes, then SplitMix64's finalizer, through which every input bit reaches every output bit.
uint64_t hash64(const void *data, size_t n, uint64_t seed) {
    const uint8_t *p = data;
    uint64_t h = 0xcbf29ce484222325u ^ seed;
    for (size_t i = 0; i < n; i++) h = (h ^ p[i]) * 0x100000001b3u;
    h = (h ^ h >> 30) * 0xbf58476d1ce4e5b9u;
    h = (h ^ h >> 27) * 0x94d049bb133111ebu;
    return h ^ h >> 31;
}

uint64_t hash_number(uint64_t v, uint64_t seed) {
    uint8_t b[8];
    for (int i = 0; i < 8; i++) b[i] = (uint8_t)(v >> 8 * i);
    return hash64(b, sizeof b, seed);
}

// A checksum against accidents. Lane i takes the words i, i+4, i+8, ... of 8 bytes. A step is a bijection of
// the lane for a given word and of the word for a given lane: no change within one word goes unseen.
static uint64_t sum_step(uint64_t h, uint64_t word) {
    h = (h ^ word) * 0x9e3779b97f4a7c15u;
    return h << 31 | h >> 33;         // high bits come down, or two flips of the top bit would cancel
}

static uint64_t word_at(const uint8_t *p) {
    uint64_t v = 0;
    for (int i = 7; i >= 0; i--) v = v << 8 | p[i];
    return v;
}

void sum_add(Sum *s, const uint8_t *p, size_t n) {
    Sum t = *s;                       // a copy that p cannot alias stays in registers
    for (size_t i = 0; i < n; i += 8 * SUM_LANES)
        for (size_t j = 0; j < SUM_LANES; j++) t.lane[j] = sum_step(t.lane[j], word_at(p + i + 8 * j));
    *s = t;
}

uint64_t sum_end(const Sum *s) {
    uint64_t h = SUM_LANES;
    for (int j = 0; j < SUM_LANES; j++) h = sum_step(h, s->lane[j]);
    return h ^ h >> 32;
}

// SHA-256, from FIPS 180-4: 4.1.2 functions, 4.2.2 constants, 5.1.1 padding, 6.2.2 the hash.

static const uint32_t SHA_K[64] = {   // fractions of the cube roots of the first 64 primes
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t rotr(uint32_t x, int n) { return x >> n | x << (32 - n); }

// The standard's letters, but s for the state. The eight moves of a round cost nothing once it is unrolled.
static void sha256_block(uint32_t s[8], const uint8_t *p) {
    uint32_t w[64], a = s[0], b = s[1], c = s[2], d = s[3], e = s[4], f = s[5], g = s[6], h = s[7];
    for (int t = 0; t < 16; t++, p += 4)
        w[t] = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
    for (int t = 16; t < 64; t++)
        w[t] = (rotr(w[t - 2], 17) ^ rotr(w[t - 2], 19) ^ w[t - 2] >> 10) + w[t - 7] +
               (rotr(w[t - 15], 7) ^ rotr(w[t - 15], 18) ^ w[t - 15] >> 3) + w[t - 16];
    for (int t = 0; t < 64; t++) {
        uint32_t t1 = h + (rotr(e, 6) ^ rotr(e, 11) ^ rotr(e, 25)) + ((e & f) ^ (~e & g)) + SHA_K[t] + w[t];
        uint32_t t2 = (rotr(a, 2) ^ rotr(a, 13) ^ rotr(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
        h = g;
        g = f;
        f = e;
        e = d + t1;
        d = c;
        c = b;
        b = a;
        a = t1 + t2;
    }
    const uint32_t add[8] = {a, b, c, d, e, f, g, h};
    for (int i = 0; i < 8; i++) s[i] += add[i];
}

void sha256_init(Sha256 *s) {
    static const uint32_t h[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,    // fractions of the
                                  0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};   // square roots
    memcpy(s->h, h, sizeof h);
    s->n = 0;
}

void sha256_add(Sha256 *s, const void *data, size_t n) {
    const uint8_t *p = data;
    for (size_t take; n > 0; p += take, n -= take) {
        size_t have = s->n % 64;
        take = n < 64 - have ? n : 64 - have;
        memcpy(s->block + have, p, take);
        s->n += take;
        if (s->n % 64 == 0) sha256_block(s->h, s->block);
    }
}

void sha256_end(Sha256 *s, char hex[65]) {
    static const uint8_t pad[64] = {0x80};
    uint8_t bits[8];
    for (int i = 0; i < 8; i++) bits[i] = (uint8_t)(s->n * 8 >> (56 - 8 * i));
    sha256_add(s, pad, 1 + (119 - s->n % 64) % 64);        // up to 8 bytes before the end of a block
    sha256_add(s, bits, 8);
    for (int i = 0; i < 64; i++) hex[i] = "0123456789abcdef"[s->h[i / 8] >> (28 - 4 * (i % 8)) & 15];
    hex[64] = 0;
}
